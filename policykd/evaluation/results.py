"""Results of an evaluation: every episode's values, and the summaries with intervals that derive from them.

They are computed from stored outcomes, and nothing is simulated here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from policykd import __version__
from policykd.errors import OutputError, UnknownNameError
from policykd.plain import from_plain, typed, versioned
from policykd.seeding import integer_seed
from policykd.stats import Interval, bootstrap, paired_difference, paired_ratio, proportion
from policykd.storage import read_json, write_json

FORMAT_VERSION = 1

RANDOM = "random actions"
"""Name of the reference that retention is measured from, where rewards are not in [0, 1]."""


@dataclass(frozen=True)
class Episodes:
    """Outcomes of one policy on one skill; episode i is on track i, whatever the policy.

    Attributes:
        total_reward: sum of the rewards of each episode.
        reward_per_step: the sum over the steps of a whole episode, in [0, 1]: falling early costs.
        length: steps until the fall or the end.
        distance: distance covered, m.
        success: whether the episode ended without a fall and covered the task's least distance.
    """

    total_reward: tuple[float, ...]
    reward_per_step: tuple[float, ...]
    length: tuple[int, ...]
    distance: tuple[float, ...]
    success: tuple[bool, ...]

    @property
    def reward_while_up(self) -> tuple[float, ...]:
        """Reward per step before the end: the quality of the gait, whether or not it ended in a fall."""
        return tuple(total / length for total, length in zip(self.total_reward, self.length, strict=True))


@dataclass(frozen=True)
class Summary:
    """Summary of one policy on one skill, each figure with its 95 % interval.

    Attributes:
        success: rate of success (Wilson interval).
        reward_per_step: mean over the episodes (BCa bootstrap, as the following ones).
        reward_while_up: mean reward per step before the end of the episode.
        length: mean number of steps.
        distance: mean distance, m.
        retention: reward per step over that of the skill's expert on the same tracks (paired bootstrap of the ratio
            of means), both less that of random actions where rewards are not in [0, 1]; None without an expert, or with
            one that is not clearly better than random actions.
        shortfall: success of the expert less that of the policy on the same tracks (paired bootstrap); None without
            an expert.
    """

    success: Interval
    reward_per_step: Interval
    reward_while_up: Interval
    length: Interval
    distance: Interval
    retention: Interval | None
    shortfall: Interval | None


@dataclass(frozen=True)
class Evaluation:
    """Policies times skills.

    Attributes:
        policies: names of the policies.
        skills: ids of the skills.
        episodes: episodes per policy and skill.
        seed: seed of tracks and initial states.
        noise: whether actions were sampled.
        episode_steps: steps of a whole episode, by skill.
        experts: skill id to the policy that retention is measured against.
        cells: (policy, skill) to outcomes.
    """

    policies: tuple[str, ...]
    skills: tuple[str, ...]
    episodes: int
    seed: int
    noise: bool
    episode_steps: Mapping[str, int]
    experts: Mapping[str, str] = field(default_factory=dict)
    cells: dict[tuple[str, str], Episodes] = field(default_factory=dict)

    def with_experts(self, experts: Mapping[str, str]) -> Evaluation:
        """Return the same outcomes measured against other experts.

        Args:
            experts: skill id to policy name; skills may be left out.

        Raises:
            UnknownNameError: for a skill or a policy that was not evaluated.
        """
        for skill, policy in experts.items():
            if skill not in self.skills:
                raise UnknownNameError("evaluated skill", skill, self.skills)
            if policy not in self.policies:
                raise UnknownNameError("evaluated policy", policy, self.policies)
        return replace(self, experts=dict(experts))

    def judges(self, skill: str) -> bool:
        """Return whether success says something on a skill.

        Environments with rewards of any size may report none: every episode, those of random actions included, then
        counts as one.
        """
        if (RANDOM, skill) not in self.cells:
            return True
        return not all(all(cell.success) for (_, own), cell in self.cells.items() if own == skill)

    @cached_property
    def summaries(self) -> dict[tuple[str, str], Summary]:
        """(policy, skill) to summary; equal outcomes give equal digits."""
        return {key: self._summary(*key) for key in self.cells}

    def _summary(self, policy: str, skill: str) -> Summary:
        cell = self.cells[policy, skill]
        seed = integer_seed(self.seed, "intervals", skill)
        expert = self.cells.get((self.experts.get(skill, ""), skill))
        retention = shortfall = None
        if expert is not None:
            shortfall = paired_difference(np.asarray(expert.success, float), np.asarray(cell.success, float), seed=seed)
            retention = self._retention(cell, expert, skill, seed)
        return Summary(
            success=proportion(cell.success),
            reward_per_step=bootstrap(cell.reward_per_step, seed=seed),
            reward_while_up=bootstrap(cell.reward_while_up, seed=seed),
            length=bootstrap(cell.length, seed=seed),
            distance=bootstrap(cell.distance, seed=seed),
            retention=retention,
            shortfall=shortfall,
        )

    def _retention(self, cell: Episodes, expert: Episodes, skill: str, seed: int) -> Interval | None:
        own, best = (np.asarray(e.reward_per_step) for e in (cell, expert))
        if (RANDOM, skill) in self.cells:
            floor = np.asarray(self.cells[RANDOM, skill].reward_per_step)
            own, best = own - floor, best - floor
            clearly = paired_difference(best, np.zeros_like(best), seed=seed).low > 0
            return paired_ratio(own, best, signed=True, seed=seed) if clearly else None
        return paired_ratio(own, best, seed=seed) if best.min() > 0 else None

    def to_json(self) -> dict[str, Any]:
        """Return all outcomes, and the summaries that derive from them."""
        head = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "cells"}
        cells = [
            {"policy": policy, "skill": skill, "summary": asdict(self.summaries[policy, skill]), **asdict(cell)}
            for (policy, skill), cell in self.cells.items()
        ]
        return {"format_version": FORMAT_VERSION, "policykd_version": __version__, **head, "cells": cells}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], what: str = "the evaluation") -> Evaluation:
        """Read a record of :meth:`to_json`; summaries are computed from the outcomes.

        Args:
            content: the record.
            what: name of the record in messages.

        Raises:
            OutputError: if a field is missing or garbled, or the format is newer.
        """
        given = versioned(content, FORMAT_VERSION, what)

        def invalid(reason: str) -> OutputError:
            return OutputError(f"{what} is not valid: {reason}; evaluate again")

        how: dict[str, Any] = {"error": invalid, "strict": True, "ignore_unknown": True}
        found = from_plain(cls, {**given, "cells": {}} if "cells" in given else given, **how)
        cells = typed(tuple[_Cell, ...], given["cells"], "cells", **how)
        for cell in cells:
            if (
                len({len(getattr(cell, field.name)) for field in fields(Episodes)}) != 1
                or min(cell.length, default=0) < 1
            ):
                raise invalid(
                    f"the episodes of {cell.policy} on {cell.skill} have different numbers of figures, or none"
                )
        return replace(found, cells={(cell.policy, cell.skill): cell.episodes for cell in cells})

    def save(self, path: Path) -> None:
        """Write everything to a JSON file, atomically."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Read a JSON file.

        Raises:
            OutputError: if it is not an evaluation, naming the file.
        """
        try:
            return cls.from_json(read_json(path), str(path))
        except FileNotFoundError:
            raise OutputError(f"{path} does not exist; it should hold an evaluation") from None


@dataclass(frozen=True)
class _Cell(Episodes):
    """Outcomes of one policy on one skill, as they are stored."""

    policy: str
    skill: str

    @property
    def episodes(self) -> Episodes:
        return Episodes(**{f.name: getattr(self, f.name) for f in fields(Episodes)})
