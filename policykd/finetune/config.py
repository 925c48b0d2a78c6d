"""Settings of fine-tuning. It is data; what they do is in ``learner`` and ``run``."""

from __future__ import annotations

from dataclasses import dataclass, field

from policykd.agents.training.algorithms.ppo import PpoConfig
from policykd.errors import ConfigError, UnknownNameError, check_range
from policykd.plain import added
from policykd.threads import cores_for

GUIDANCE_NAMES = ("kickstarting", "proximal", "value_gated", "entropy_regularized", "reverse_kl")
"""Names of the ways to listen to teachers; ``policykd.finetune.guidance`` defines them."""


@dataclass(frozen=True)
class FinetuneConfig:
    """A fine-tuning run.

    Attributes:
        steps: budget, environment steps over all simulations.
        seed: seed of tracks, resets and exploration.
        target_share: share of the simulations for the skills to improve; the others rehearse the old skills.
        warm_up_steps: environment steps for which only the critic learns, before the actor may move. A merge's critic
            knows the returns of the mean actions, not of the exploring ones.
        noise: standard deviation of the exploration at the start, units of the action. A student's own is small, and a
            policy that does not explore learns nothing.
        leash: weight at the start, on the skills to improve, of the divergence from the start's actions (nats of a
            Gaussian with the exploration's spread), or 0; it falls linearly to 0 at ``leash_share`` of the budget.
        leash_share: share of the budget after which the skills to improve have no leash.
        rehearsal: weight of the same divergence on the old skills, simulated or recorded; it does not fall.
        guidance: how the run listens to teachers of some of the skills: ``kickstarting``, ``proximal``,
            ``value_gated``, ``entropy_regularized`` or ``reverse_kl``, see ``policykd.finetune.guidance``; empty
            without teachers.
        guidance_weight: weight of the teachers' loss at the start, per nat of divergence.
        guidance_share: share of the budget after which it is 0, falling linearly, where the environment's reward
            counts; 0 keeps it.
        privileged: observation groups of the simulation that a critic of the run's own reads next to the policy's
            groups, such as ``scan`` for a policy that does not see the ground; see ``policykd.finetune.critics``.
        bound: largest loss on any skill of the result, of success and of the reward as a share of the start's, on
            the final tracks.
        averaging_steps: time constant of the moving average of the weights that is validated and saved, environment
            steps, never more than a tenth of the steps so far; 0 disables averaging.
        segment_steps: environment steps between two validations.
        validation_episodes: episodes of each skill in a validation.
        final_episodes: episodes of each skill, on other tracks, that decide between the finalists and the start.
        finalists: number of accepted weights that are measured again.
        patience: validations in a row that lose more than the bound and two standard errors before the weights of the
            best one are taken back; the step size is halved and the leashes are doubled then.
        threads: threads of the simulation; None for one per usable core.
        ppo: settings of PPO. Its step size starts low and rises by the measured divergence of the updates.

    Raises:
        ConfigError: naming the field and its range, or for privileged groups without warm-up.
    """

    steps: int = 1_000_000
    seed: int = 0
    target_share: float = 0.5
    warm_up_steps: int = 49_152
    noise: float = 0.1
    leash: float = 0.0
    leash_share: float = 0.5
    rehearsal: float = 0.1
    guidance: str = added("")
    guidance_weight: float = added(0.1)
    guidance_share: float = added(0.5)
    privileged: tuple[str, ...] = added(())
    bound: float = 0.02
    averaging_steps: int = 100_000
    segment_steps: int = 98_304
    validation_episodes: int = 64
    final_episodes: int = 128
    finalists: int = 3
    patience: int = 2
    threads: int | None = None
    ppo: PpoConfig = field(
        default_factory=lambda: PpoConfig(
            envs=256, rollout_steps=24, epochs=4, minibatch=1536, learning_rate=5e-5, learning_rate_range=(1e-6, 1e-3),
            target_kl=0.01, final_target_kl=0.005, final_std=0.05,
        )
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1, 10**12)
        check_range("seed", self.seed, 0, 2**63 - 1)
        check_range("target_share", self.target_share, 0.05, 1.0)
        check_range("warm_up_steps", self.warm_up_steps, 0, 10**12)
        check_range("noise", self.noise, 1e-3, 10.0)
        if self.guidance and self.guidance not in GUIDANCE_NAMES:
            raise UnknownNameError("guidance", self.guidance, GUIDANCE_NAMES)
        if self.privileged and not self.warm_up_steps:
            raise ConfigError("privileged groups need warm_up_steps, in which the critic that reads them learns first")
        check_range("guidance_share", self.guidance_share, 0.0, 1.0)
        for name in ("leash", "rehearsal", "guidance_weight"):
            check_range(name, getattr(self, name), 0.0, 1e6)
        check_range("leash_share", self.leash_share, 0.0, 1.0)
        check_range("bound", self.bound, 0.0, 1.0)
        check_range("averaging_steps", self.averaging_steps, 0, 10**12)
        check_range("segment_steps", self.segment_steps, 1, 10**9)
        for name in ("validation_episodes", "final_episodes"):
            check_range(name, getattr(self, name), 1, 100_000)
        for name in ("finalists", "patience"):
            check_range(name, getattr(self, name), 1, 1000)
        cores_for(self.threads)
