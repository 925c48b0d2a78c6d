"""Expert training on a device: the run of :mod:`trainer` with simulation, policy and PPO side by side there."""

from __future__ import annotations

from typing import Any

from policykd.agents.policy import Policy
from policykd.agents.training.callback import next_level
from policykd.agents.training.device_ppo import DevicePpo
from policykd.agents.training.learners import noise_bound
from policykd.agents.training.trainer import Run
from policykd.envs.batched_env import BatchedEnv
from policykd.envs.masked_env import MaskedEnv
from policykd.seeding import integer_seed

_ENOUGH_EPISODES = 100


class DeviceRun(Run):
    """The state of one training run on a device.

    A resumed run goes on with the weights, the optimiser and the curriculum of the interrupted one, but with new
    episodes: results of a CUDA device are not the same from run to run anyway.
    """

    _env: MaskedEnv

    def _new_env(self, *arguments: Any, **options: Any) -> BatchedEnv:
        return MaskedEnv(*arguments, device=self._config.device, **options)

    def _make_learner(self) -> None:
        config, seed = self._config.ppo, integer_seed(self._config.seed, "exploration")
        self._ppo = DevicePpo(self._policy, self._env, config, seed)

    def _first_policy(self) -> Policy:
        return super()._first_policy().to(self._env.device)

    def _learn_segment(self) -> dict[str, float]:
        """Learn for one segment with its own random stream."""
        seed = integer_seed(self._config.seed, "segment", self._segment)
        self._env.seed(seed)
        self._ppo.seed(seed)
        self._env.draw_starts()
        if self._policy.normaliser.fresh.any():
            self._ppo.warm_up()
        end, figures = min(self._steps + self._config.segment_steps, self._config.steps), dict[str, float]()
        while self._steps < end:
            figures = self._update() or figures
            self._progress.update(self._name, self._steps, **figures)
        self._segment += 1
        self._check_contacts()
        return figures

    def _update(self) -> dict[str, float]:
        """Collect a rollout, learn from it, and adapt step size, normaliser, noise and level to what came of it."""
        ppo, rate = self._ppo, self._rate
        rollout = ppo.collect()
        self._steps += rollout.rewards.numel()
        divergence = ppo.update(rollout, rate.value)
        spent = min(1.0, self._steps / self._config.steps)
        rate.adapt(divergence, spent)
        # Before the normaliser moves on: the weights have not seen that yet.
        self._average.update(self._policy, self._steps)
        ppo.follow(rollout, noise_bound(self._policy.architecture.initial_std, self._config.ppo, spent))
        figures = ppo.episodes.take(_ENOUGH_EPISODES)
        if figures:
            level = next_level(self._env, figures["train_success"])
            if level != self._env.level:
                self._env.level = level
                self._env.draw_starts()
        return figures

    def _check_contacts(self) -> None:
        check = getattr(self._env.engine, "check_overflow", None)  # the CPU engine drops none
        if check is not None:
            check()

    def _learner_state(self) -> dict[str, Any]:
        return {
            "weights": self._policy.state_dict(),
            "optimiser": self._ppo.optimiser.state_dict(),
            "level": self._env.level,
            "failures": self._env.failures,
        }

    def _load_learner_state(self, state: dict[str, Any]) -> None:
        self._policy.load_state_dict(state["weights"])
        self._ppo.optimiser.load_state_dict(state["optimiser"])
        self._env.level, self._env.failures = state["level"], state["failures"]
