"""Recipes: skills, budgets and settings of a curriculum as one frozen record, and its YAML file. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from policykd.agents.architecture import Architecture, Encoder
from policykd.agents.training.config import PpoConfig, TrainConfig
from policykd.agents.training.device_settings import device_ppo, device_settings, device_steps
from policykd.curriculum.curricula import CURRICULA
from policykd.envs.foreign import PREFIX
from policykd.errors import ConfigError, OutputError, UnknownNameError, check_range
from policykd.finetune.config import FinetuneConfig
from policykd.merge.config import MergeConfig
from policykd.merge.device_settings import device_merge
from policykd.parsing import parse_yaml
from policykd.plain import added, as_plain, from_plain
from policykd.storage import write_text

DEFAULT_CURRICULUM = "plaid"
"""Curriculum of a recipe that names none."""

INJECTION_MODES = ("exact", "scaled", "random")
"""Initializations of the weights of injected observations."""


@dataclass(frozen=True)
class SkillPlan:
    """One skill of a curriculum and its budget.

    Attributes:
        skill: id of the skill, for example ``biped/steps``; its parts may be ``package.module:Attribute``.
        steps: budget of the reinforcement learning on it, environment steps, without the states that a merge collects.
        target_success: stop early at this validation success; used only where the recipe stops early.
        start_level: difficulty at which the training on it begins, as a share of the skill's own; None for the
            terrain's level.
        target_return: of a gymnasium environment, stop early at this validation return of an episode, whatever its
            success; None trains for all steps.

    Raises:
        ConfigError: naming the field and its range.
    """

    skill: str
    steps: int = 1_000_000
    target_success: float = 0.95
    start_level: float | None = None
    target_return: float | None = added(None)

    def __post_init__(self) -> None:
        check_range(f"steps of {self.skill}", self.steps, 1, 10**12, "environment steps")
        check_range(f"target_success of {self.skill}", self.target_success, 0.0, 2.0)
        if self.start_level is not None:
            check_range(f"start_level of {self.skill}", self.start_level, 0.01, 1.0)


@dataclass(frozen=True)
class Injection:
    """When and how a policy gets new inputs (PLAID, section on input injection).

    In a curriculum of gymnasium environments only ``mode``, ``scale`` and ``encoder`` count: the observation groups
    that an environment has and the earlier ones have not are injected before it is learned.

    Attributes:
        blind: how many of the first skills are learned with ``blind_groups`` only; 0 for none, and no injection.
        blind_groups: observation groups of those skills.
        groups: observation groups that are injected before the next skill.
        mode: ``exact`` (new weights are zero: no output changes), ``scaled`` (the released code: a hundredth of a
            random start) or ``random`` (for ablations).
        scale: factor of ``scaled``.
        encoder: separate branch for one of the injected groups; None feeds them to the first layer.

    Raises:
        ConfigError: naming the field and its range.
        UnknownNameError: for an unknown mode.
    """

    blind: int = 2
    blind_groups: tuple[str, ...] = ("proprio",)
    groups: tuple[str, ...] = ("terrain",)
    mode: Literal["exact", "scaled", "random"] = "exact"
    scale: float = 0.01
    encoder: Encoder | None = None

    def __post_init__(self) -> None:
        check_range("injection.blind", self.blind, 0, 1000)
        check_range("injection.scale", self.scale, 0.0, 1.0)
        if self.mode not in INJECTION_MODES:
            raise UnknownNameError("injection.mode", self.mode, INJECTION_MODES)
        if not self.blind_groups or (self.blind and not self.groups):
            raise ConfigError("injection.blind_groups and injection.groups must name at least one observation group")
        if set(self.groups) & set(self.blind_groups):
            raise ConfigError(f"injection.groups {self.groups} must not repeat those of blind_groups")
        if self.encoder is not None and self.encoder.group not in self.groups:
            raise ConfigError(f"injection.encoder is of '{self.encoder.group}'; injection.groups are {self.groups}")


@dataclass(frozen=True)
class Measurement:
    """Settings of the measurements of a curriculum's policies.

    Attributes:
        episodes: episodes per policy and skill, on tracks that all policies, methods and seeds share.
        seed: seed of those tracks and of the initial states.
        zero_shot: skills without training, on which the last policy is measured.
        device: where the policies are measured: ``cpu``, ``cuda`` or ``auto``.

    Raises:
        ConfigError: naming the field and its range.
    """

    episodes: int = 64
    seed: int = 0
    zero_shot: tuple[str, ...] = ()
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_range("measurement.episodes", self.episodes, 1, 100_000)
        check_range("measurement.seed", self.seed, 0, 2**63 - 1)


_NETWORKS = Architecture(hidden=(192, 192), critic_hidden=(192, 192))


JOINT_PPO = PpoConfig(envs=160, minibatch=1024)
"""PPO on several skills at once: each skill has only a share of a rollout; see docs/curricula.md."""

_USUAL = FinetuneConfig()
JOINT_FINETUNE = replace(_USUAL, bound=1.0, segment_steps=245_760, ppo=replace(_USUAL.ppo, envs=320, minibatch=1920))
"""Fine-tuning on all skills at once. No loss of one skill undoes it: the finalist with the largest mean gain is the
result. With a bound of 0.05, a run that taught four gaits was in vain, because another lost more of its success."""


@dataclass(frozen=True)
class Recipe:
    """A curriculum.

    Attributes:
        skills: the skills in the order in which they are added.
        curriculum: name of the curriculum, one of :data:`policykd.curriculum.CURRICULA`, or
            ``package.module:function`` for one of another package.
        injection: when and how the policy gets its new observation groups.
        train: settings of the reinforcement learning; ``steps``, ``target_success``, ``start_level``, ``seed`` and
            ``threads`` come from the skill and the run.
        joint: PPO on several skills at once, for ``multitasker`` and ``multitasker-joint``: each skill has only a share
            of a rollout.
        merge: settings of the merges; ``seed`` and ``threads`` come from the run. Its networks are those of ``train``:
            a student becomes the start of the next expert. A student starts from the ``newest`` expert (as the authors
            did), the ``previous`` student (the newest expert where there is none), or ``random`` weights.
        finetune: settings of the fine-tuning of ``scratch+merge+finetune``; ``steps``, ``seed`` and ``threads`` come
            from the curriculum and the run.
        keep_data: keep the labeled states of merges, some hundred megabytes each.
        transfer_noise: exploration noise with which the training from an earlier policy begins, units of the action;
            None keeps the policy's own.
        early_stop: whether training and merging stop at their targets; off, every budget is spent in full, so that
            curricula can be compared at equal cost.
        measurement: how the policies are measured.
        task_id: give the policies of gymnasium environments an observation group that tells which of the recipe's
            skills it is, so that experts that contradict each other in the same states can be merged.
        allow_conflicts: merge experts of gymnasium environments although they contradict each other.
        skill_records: records of the skills whose ids do not say everything, by id, as
            :func:`policykd.envs.skill_records.records_of` returns them; None if every id does.
        preparation: a skill that is learned first, such as balance before walking: every training that would begin with
            new weights begins with its policy. It is neither merged nor retained. Every curriculum learns it once.

    Raises:
        ConfigError: naming the field and its range.
        UnknownNameError: for an unknown curriculum or start of a student.
    """

    skills: tuple[SkillPlan, ...]
    curriculum: str = DEFAULT_CURRICULUM
    injection: Injection = field(default_factory=Injection)
    train: TrainConfig = field(default_factory=lambda: TrainConfig(patience=1, architecture=_NETWORKS))
    joint: PpoConfig = JOINT_PPO
    merge: MergeConfig = field(default_factory=lambda: MergeConfig(rounds=8, start="newest", architecture=_NETWORKS))
    keep_data: bool = False
    transfer_noise: float | None = None
    early_stop: bool = True
    measurement: Measurement = field(default_factory=Measurement)
    skill_records: Mapping[str, Any] | None = added(None)
    task_id: bool = added(False)
    allow_conflicts: bool = added(False)
    preparation: SkillPlan | None = added(None)
    finetune: FinetuneConfig = added(JOINT_FINETUNE)

    def __post_init__(self) -> None:
        if ":" not in self.curriculum:  # a recipe may come from a file, and reading a file imports nothing
            _ = CURRICULA[self.curriculum]
        if self.merge.start not in ("newest", "previous", "random"):
            raise UnknownNameError("merge.start of a recipe:", self.merge.start, ("newest", "previous", "random"))
        ids = [plan.skill for plan in self.skills]
        if not ids or len(set(ids)) != len(ids):
            raise ConfigError(f"skills are {ids}; name at least one, each once")
        for name in self.skill_records or ():
            if name not in (*self.skill_names, *self.measurement.zero_shot):
                raise UnknownNameError("skill of the recipe in skill_records:", name, ids)
        if not all(name.startswith(PREFIX) for name in ids):
            check_range("injection.blind", self.injection.blind, 0, len(ids))
        self._check_preparation()
        if self.transfer_noise is not None:
            check_range("transfer_noise", self.transfer_noise, 1e-3, 10.0)
        if self.merge.architecture != self.train.architecture:
            raise ConfigError(
                "merge.architecture differs from train.architecture; they must be equal, because a student becomes "
                "the start of the next expert"
            )

    def _check_preparation(self) -> None:
        """Raise unless the first skill can begin with the policy of the preparation."""
        if self.preparation is None:
            return
        name = self.preparation.skill
        if name.startswith(PREFIX) or any(plan.skill == name for plan in self.skills):
            raise ConfigError(f"preparation is {name}; give a skill of policykd's robots that is not learned later")
        if self.injection.blind:
            raise ConfigError("a recipe with a preparation needs injection.blind 0: all trainings read the same groups")

    @property
    def skill_names(self) -> tuple[str, ...]:
        """Ids of all skills that are learned, the preparation included."""
        first = () if self.preparation is None else (self.preparation.skill,)
        return (*first, *(plan.skill for plan in self.skills))

    def on_device(self, device: str) -> Recipe:
        """Return the recipe with training, merging and measuring on a device.

        For a CUDA device, simulations, rollouts, minibatches and budgets become those of
        :mod:`policykd.agents.training.device_settings`.
        """
        from policykd.envs.devices import is_card  # loads torch

        recipe = self._for_card() if is_card(device) else self
        return replace(
            recipe,
            train=replace(recipe.train, device=device),
            merge=replace(recipe.merge, device=device),
            measurement=replace(recipe.measurement, device=device),
        )

    def _for_card(self) -> Recipe:
        """Return the recipe with the settings of a CUDA device."""
        if self.train.algorithm != "ppo":
            return replace(self, merge=device_merge(self.merge))

        def longer(plan: SkillPlan) -> SkillPlan:
            return replace(plan, steps=device_steps(plan.steps))

        return replace(
            self,
            skills=tuple(map(longer, self.skills)),
            preparation=None if self.preparation is None else longer(self.preparation),
            train=device_settings(self.train),
            joint=device_ppo(self.joint),
            merge=device_merge(self.merge),
        )


def load_recipe(path: Path) -> Recipe:
    """Read a recipe from a YAML file; fields that are left out have their defaults.

    Args:
        path: the file.

    Raises:
        OutputError: if the file cannot be read or is not YAML.
        UnknownNameError: for a field that a recipe does not have, with close matches.
        ConfigError: for a value of the wrong type or out of range, naming the field.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror or error}") from None
    return from_plain(Recipe, parse_yaml(content, str(path)))


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe with all its fields as YAML, atomically; :func:`load_recipe` reads an equal one."""
    write_text(path, yaml.safe_dump(as_plain(recipe), sort_keys=False, default_flow_style=None, width=100))
