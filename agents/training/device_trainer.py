"""Expert training on a CUDA device, where simulation, policy and learner share the memory.

It uses ``device_ppo`` for the updates and writes the same files as ``trainer``.
"""

from __future__ import annotations

from typing import Any

from typing_extensions import override

from policykd.agents.policy import Policy
from policykd.agents.training.sb3_callback import next_level, review_due
from policykd.agents.training.trainer import Run
from policykd.agents.training.warm_up import warm_up_normalizer
from policykd.envs.masked_env import MaskedEnv
from policykd.seeding import integer_seed
from policykd.torch_seeding import seed_torch

_ENOUGH_EPISODES = 100


class DeviceRun(Run):
    """The state of one training run on a device.

    A resumed run continues where the interrupted one was. It ends in the same weights only if the device's results
    repeat from run to run, which those of mujoco_warp on CUDA do not.
    """

    _make_env = MaskedEnv
    _env: MaskedEnv

    @override
    def _make_learner(self) -> None:
        make, seed = self._algorithm.make_device_learner, integer_seed(self._config.seed, "exploration")
        assert make is not None, "train_expert checks that the algorithm runs on the device"
        self._device_learner = make(self._policy, self._env, self._config.algorithm_config, seed)

    @override
    def _first_policy(self) -> Policy:
        return super()._first_policy().to(self._env.device)

    @override
    def _learn_segment(self) -> dict[str, float]:
        seed = integer_seed(self._config.seed, "segment", self._segment)
        seed_torch(seed)
        self._env.seed(seed)
        self._device_learner.seed(seed)
        self._env.draw_starts()
        if self._policy.normalizer.fresh.any():
            warm_up_normalizer(self._policy, self._env)
        end, figures = self._segment_end, dict[str, float]()
        while self._steps < end:
            figures = self._update() or figures
            self._progress.update(self._name, self._steps, **figures)
        self._segment += 1
        self._env.engine.check_overflow()
        return figures

    def _update(self) -> dict[str, float]:
        """Collect a rollout, learn from it, and adapt step size, normalizer, noise and level to the result."""
        learner, adaptation = self._device_learner, self._adaptation
        rollout = learner.collect()
        self._steps += rollout.rewards.numel()
        divergence = learner.update(rollout, adaptation.value)
        spent = min(1.0, self._steps / self._config.steps)
        adaptation.adapt(divergence, spent)
        # Before the normalizer is updated: the weights were trained with the earlier one.
        self._average.update(self._policy, self._steps)
        learner.prepare_next(rollout, adaptation.noise_bound(self._policy.architecture.initial_std, spent))
        # Episodes are taken for a review only: those between two reviews count together.
        due = review_due(self._config, self._steps, rollout.rewards.numel())
        figures = learner.episodes.take(_ENOUGH_EPISODES) if due else {}
        if figures:
            level = next_level(self._env, self._config, figures["train_success"])
            if level != self._env.level:
                self._env.level = level
                self._env.draw_starts()
        return figures

    @override
    def _learner_state(self) -> dict[str, Any]:
        return {
            "weights": self._policy.state_dict(),
            "env": self._env.state_dict(),
            "ppo": self._device_learner.state_dict(),
        }

    @override
    def _load_learner_state(self, state: dict[str, Any]) -> None:
        self._policy.load_state_dict(state["weights"])
        self._env.load_state_dict(state["env"])
        self._device_learner.load_state_dict(state["ppo"])
