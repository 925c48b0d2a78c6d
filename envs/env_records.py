"""What every environment takes and gives: configuration of tracks and initial states, and the result of a step.

It describes only and loads no simulator.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from policykd.envs.randomization import OFF, Randomization
from policykd.errors import check_range

Observations = dict[str, torch.Tensor]


@dataclass(frozen=True)
class EnvConfig:
    """Configuration of tracks and initial states.

    Attributes:
        tracks: number of tracks generated per terrain; each episode takes place on one of them.
        ordered: use track i in simulation i in every episode (for evaluation) instead of a random one.
        graded: spread the difficulties of a terrain's tracks from 0 to the terrain's own; ``BatchedEnv.level`` then
            selects the tracks of new episodes. For a curriculum during training.
        own_levels: on graded tracks, give every simulation a level of its own, which its episodes raise and lower so
            that this share of them succeeds; None for one level that the training sets.
        joint_noise: half width of the uniform noise on the standing pose's joint angles, rad.
        speed_noise: the initial forward velocity is uniform between 0 and this, m/s.
        randomization: random physics and sensors; off by default.
    """

    tracks: int = 1024
    ordered: bool = False
    graded: bool = False
    own_levels: float | None = None
    joint_noise: float = 0.05
    speed_noise: float = 1.0
    randomization: Randomization = OFF

    def __post_init__(self) -> None:
        check_range("tracks", self.tracks, 1, 1_000_000)
        if self.own_levels is not None:
            check_range("own_levels", self.own_levels, 0.01, 0.99)
        check_range("joint_noise", self.joint_noise, 0.0, 1.0, "rad")
        check_range("speed_noise", self.speed_noise, 0.0, 10.0, "m/s")


@dataclass
class Episodes:
    """Statistics of the episodes that ended in a step, one row each, in the order of ``ids``.

    Attributes:
        ids: (m,) simulations whose episode ended.
        total_reward: (m,) sum of the rewards.
        length: (m,) steps.
        distance: (m,) distance covered along x, m.
        success: (m,) whether the episode ended without a fall and within the task's goal.
    """

    ids: torch.Tensor
    total_reward: torch.Tensor
    length: torch.Tensor
    distance: torch.Tensor
    success: torch.Tensor


@dataclass
class Step:
    """Result of a step of n simulations.

    Attributes:
        flat: (n, features) concatenated observation groups in the skill's order, float32; after an auto-reset, the
            first observation of the new episode.
        reward: (n,) rewards, float32; in [0, 1] but for robots that are simulated as their model files say.
        terminated: (n,) whether the robot fell or its simulation failed.
        truncated: (n,) whether the episode ran out of steps.
        failed: (n,) whether MuJoCo raised an error or met a NaN; a subset of ``terminated``.
        final_flat: (m, features) concatenated observation groups of the last states of the ended episodes, with rows
            as in ``episodes``.
        episodes: statistics of the ended episodes.
        columns: columns of every observation group in ``flat``, in order.
    """

    flat: torch.Tensor
    reward: torch.Tensor
    terminated: torch.Tensor
    truncated: torch.Tensor
    failed: torch.Tensor
    final_flat: torch.Tensor
    episodes: Episodes
    columns: dict[str, slice]

    @property
    def observations(self) -> Observations:
        """The observation groups, each (n, size): views of ``flat``."""
        return split_groups(self.flat, self.columns)

    @property
    def final_observations(self) -> Observations:
        """The observation groups of the ended episodes' last states, each (m, size): views of ``final_flat``."""
        return split_groups(self.final_flat, self.columns)


def split_groups(flat: torch.Tensor, columns: dict[str, slice]) -> Observations:
    """Return the observation groups of flat observations (n, features), each (n, size): views."""
    return {name: flat[:, span] for name, span in columns.items()}
