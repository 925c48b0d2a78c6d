"""Configuration of a merge."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from policykd.agents.architecture import Architecture
from policykd.errors import ConfigError, UnknownNameError, check_range
from policykd.schedules import parse

LOSS_NAMES = ("mse", "huber", "forward_kl", "reverse_kl")
"""Names of the distillation losses; ``policykd.merge.losses`` holds what they compute."""


@dataclass(frozen=True)
class MergeConfig:
    """How experts are merged.

    Attributes:
        rounds: rounds of collecting labelled states and fitting the student, at most.
        envs: simulations per skill and round; each runs for one episode length.
        beta: schedule of the expert's share of the acting, by round: ``exponential:0.5`` (0.5^round), ``linear``,
            ``constant:0`` (the student always acts), ``plaid_code``, ...; see ``policykd.schedules``. Round 0 of a new
            student is always the expert's: a random student would only show how to fall.
        mixing: who acts is drawn per ``episode`` or per ``step``. For walking, changing hands within an episode visits
            states that neither controller would reach.
        noise: standard deviation of the Gaussian noise on the executed actions, in units of the action. Labels are
            noise-free.
        loss: how student and teacher are compared: ``mse``, ``huber``, ``forward_kl`` or ``reverse_kl``.
        updates: gradient steps per round.
        minibatch: labelled states per gradient step, split equally over the skills.
        learning_rate: Adam's step size in the first round; falls along a cosine to a tenth in the last.
        averaging: share of the student's weights that a gradient step keeps; the student that acts is the exponential
            moving average of the optimiser's weights. 0 takes those as they are.
        critic: fit the critic to the returns of the finished student, for later reinforcement learning.
        gamma: discount factor of the critic.
        gae_lambda: lambda of the critic's targets.
        target_retention: stop once the student's validation reward per step is this share of the expert's on every
            skill, and its success the expert's less at most 0.05, in two rounds in a row; above 1.5 never.
        validation_episodes: episodes per skill after every round, on tracks of their own.
        seed: seed of the student, the collection and the minibatches.
        threads: threads of the simulation; None for one per usable core. Networks are trained on one.
        architecture: the student's networks.

    Raises:
        ConfigError: naming the field and its range.
        UnknownNameError: for an unknown loss or way of mixing.
    """

    rounds: int = 20
    envs: int = 48
    beta: str = "exponential:0.5"
    mixing: Literal["episode", "step"] = "episode"
    noise: float = 0.1
    loss: str = "mse"
    updates: int = 1000
    minibatch: int = 1024
    learning_rate: float = 2e-3
    averaging: float = 0.998
    critic: bool = True
    gamma: float = 0.98
    gae_lambda: float = 0.95
    target_retention: float = 0.99
    validation_episodes: int = 64
    seed: int = 0
    threads: int | None = None
    architecture: Architecture = field(default_factory=lambda: Architecture(hidden=(256, 256)))

    def __post_init__(self) -> None:
        for name in ("rounds", "envs", "updates", "minibatch", "validation_episodes"):
            check_range(f"merge.{name}", getattr(self, name), 1, 1_000_000)
        check_range("merge.noise", self.noise, 0.0, 2.0)
        check_range("merge.learning_rate", self.learning_rate, 1e-8, 1.0)
        check_range("merge.averaging", self.averaging, 0.0, 0.99999)
        check_range("merge.gamma", self.gamma, 0.0, 0.99999)
        check_range("merge.gae_lambda", self.gae_lambda, 0.0, 1.0)
        check_range("merge.target_retention", self.target_retention, 0.0, 2.0)
        if self.loss not in LOSS_NAMES:
            raise UnknownNameError("loss", self.loss, LOSS_NAMES)
        if self.mixing not in ("episode", "step"):
            raise UnknownNameError("mixing", self.mixing, ("episode", "step"))
        try:
            parse(self.beta)
        except (ValueError, UnknownNameError) as error:
            raise ConfigError(f"merge.beta: {error}") from None
