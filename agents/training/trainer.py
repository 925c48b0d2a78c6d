"""A training run: segments of learning, each followed by a validation and a checkpoint.

It owns the files of the run and knows nothing of merging or curricula.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat

from policykd.agents.files.policy_file import LoadedPolicy, save_policy
from policykd.agents.policy import Policy
from policykd.agents.training.averaging import WeightAverage
from policykd.agents.training.config import FINAL_EPISODES, TrainConfig, start_level
from policykd.agents.training.sb3_callback import TrainingCallback
from policykd.agents.training.warm_up import fresh_features, warm_up_normalizer
from policykd.agents.validation import Validation
from policykd.envs.env_records import EnvConfig
from policykd.envs.make import AnyEnv, make_env
from policykd.envs.sb3_vec_env import Sb3VecEnv
from policykd.envs.skill_records import records_of
from policykd.envs.skills import Skill
from policykd.envs.symmetry import mirror_symmetry
from policykd.errors import NonFiniteError
from policykd.plain import as_plain
from policykd.progress import Progress
from policykd.runs import RunFolder
from policykd.seeding import integer_seed
from policykd.torch_seeding import seed_torch, seeded_torch


def make_validation(skills: Sequence[Skill], config: TrainConfig, purpose: str = "validation") -> Validation:
    """Return the validation of a run.

    Args:
        skills: skills to measure on.
        config: the run.
        purpose: name of the validation; those of different names have different tracks.

    Raises:
        ConfigError: for fewer episodes than skills.
    """
    seed = integer_seed(config.seed, purpose)
    return Validation(skills, config.validation_episodes, seed=seed, threads=config.threads, device=config.device)


class Run:
    """The state of one training run on the CPU.

    Args:
        skills: skills to train on.
        folder: folder of the run.
        config: the run.
        init: policy to start from; None for new weights.
        validate_on: skills of the validations.
        progress: progress reporter.
    """

    _make_env: Callable[..., AnyEnv] = staticmethod(make_env)

    def __init__(
        self,
        skills: Sequence[Skill],
        folder: RunFolder,
        config: TrainConfig,
        init: LoadedPolicy | None,
        validate_on: Sequence[Skill],
        progress: Progress,
    ) -> None:
        self._skills, self._folder, self._config, self._init = skills, folder, config, init
        self._progress, self._name = progress, f"train {' '.join(s.id for s in skills)}"
        self._env = self._make_env(
            skills,
            config.envs,
            seed=integer_seed(config.seed, "training"),
            config=_env_config(config),
            threads=config.threads,
            device=config.device,
        )
        self._validate_on = validate_on
        self._validation = make_validation(validate_on, config)
        self._env.level = start_level(config, [s.terrain for s in skills]) if config.curriculum else 1.0
        self._algorithm = config.algorithm_record
        self._adaptation = self._algorithm.adaptation(config.algorithm_config)
        self._policy = self._first_policy()
        self._average = WeightAverage(self._policy, config.averaging_steps)
        self._make_learner()
        self._steps, self._segment, self._streak, self._seconds = 0, 0, 0, 0.0
        self._best: list[dict[str, Any]] = []  # best first
        self._rewards: list[float] = []  # of all validations, oldest first

    def _make_learner(self) -> None:
        vec = Sb3VecEnv(self._env, reward_scale=1 - self._config.gamma, stagger=True)
        with seeded_torch(integer_seed(self._config.seed, "learner")):  # weights of the learner's own networks
            settings = self._config.algorithm_config
            self._learner: BaseAlgorithm = self._algorithm.make_learner(self._policy, vec, settings, self._adaptation)
        self._learner.set_logger(Logger(None, [TensorBoardOutputFormat(str(self._folder.path / "tensorboard"))]))

    def go(self) -> None:
        """Learn until the budget is spent or the targets are reached, then write the policy file."""
        self._restore()
        self._progress.begin(self._name, self._config.steps, "steps")
        if self._config.keep_init and self._init is not None and not self._best:
            self._folder.append({"steps": 0, "level": self._env.level, **self._validate(), "seconds": 0.0})
            self._streak = 0  # a start that reaches the targets is still trained
        while not self._over:
            began = time.perf_counter()
            try:
                training = self._learn_segment()
            except NonFiniteError as error:
                raise NonFiniteError(f"{error}; {self._keep_best()}") from None
            row = {"steps": self._steps, "level": self._env.level, **training, **self._validate()}
            self._seconds += time.perf_counter() - began
            self._folder.append({**row, "seconds": self._seconds})
            self._save()
        self._finish()

    @property
    def _over(self) -> bool:
        return self._steps >= self._budget or self._streak >= self._config.patience

    @property
    def _budget(self) -> int:
        """Return the steps after which the run ends: more than its budget if it is extended."""
        config, best = self._config, max((one["success"] for one in self._best), default=0.0)
        unfinished = best < config.extend_below or self._rising
        return config.steps + (round(config.extension * config.steps) if unfinished else 0)

    @property
    def _rising(self) -> bool:
        """Whether the last validation's reward is so far above the best one before that the training is not done."""
        if self._config.extend_rise == 0.0 or len(self._rewards) < 2:
            return False
        *before, last = self._rewards
        return last - max(before) > self._config.extend_rise * abs(max(before))

    @property
    def _segment_end(self) -> int:
        """Return the steps after which the next validation is due, at the end of the budget at the latest."""
        last = self._config.steps if self._steps < self._config.steps else self._budget
        return min(self._steps + self._config.segment_steps, last)

    def _first_policy(self) -> Policy:
        if self._init is not None:
            if self._config.init_noise is not None:
                torch.nn.init.constant_(self._init.policy.log_std, math.log(self._config.init_noise))
            return self._init.policy
        seed = integer_seed(self._config.seed, "weights", *(s.id for s in self._skills))
        skill, config = self._env.skill, self._config
        symmetric = config.symmetric and self._algorithm.symmetric
        symmetry = mirror_symmetry(skill.groups, skill.robot) if symmetric else None
        policy = Policy(skill.group_sizes, self._env.num_actions, config.architecture, seed, symmetry)
        if policy.present(self._skills) is not None:
            policy.normalizer.count_apart()
        return policy

    def _learn_segment(self) -> dict[str, float]:
        """Learn for one segment with its own random stream; the episodes of the last segment continue."""
        seed = integer_seed(self._config.seed, "segment", self._segment)
        seed_torch(seed)
        np.random.seed(seed)  # noqa: NPY002 - stable-baselines3 shuffles with NumPy's global stream
        self._env.seed(seed)
        self._learner.action_space.seed(seed)  # random first actions of off-policy algorithms
        if fresh_features(self._policy, self._env).any():
            warm_up_normalizer(self._policy, self._env)
        steps = self._segment_end - self._steps
        callback = TrainingCallback(
            self._policy, self._average, self._env, self._adaptation, self._config, self._progress, self._name
        )
        self._learner.learn(steps, callback, reset_num_timesteps=False)
        self._steps, self._segment = self._learner.num_timesteps, self._segment + 1
        return callback.figures()

    def _validate(self) -> dict[str, Any]:
        figures = self._validation.measure(self._average.policy)
        success, reward = figures["success"], figures["reward_per_step"]
        weights = {k: v.clone() for k, v in self._average.policy.state_dict().items()}
        self._rewards.append(reward)
        self._best.append({"success": success, "reward_per_step": reward, "weights": weights})
        self._best = sorted(self._best, key=_quality, reverse=True)[: self._config.finalists]
        reached = success >= self._config.target_success and reward >= self._config.target_reward
        self._streak = self._streak + 1 if reached else 0
        return figures

    def _save(self) -> None:
        self._folder.save_checkpoint(
            {
                **self._learner_state(),
                "average": self._average.state_dict(),
                "best": self._best,
                "rewards": self._rewards,
                "steps": self._steps,
                "segment": self._segment,
                "streak": self._streak,
                "seconds": self._seconds,
                "learning_rate": self._adaptation.value,
            }
        )

    def _restore(self) -> None:
        state = self._folder.load_checkpoint()
        if state is None:
            return
        self._average.load_state_dict(state["average"])
        self._best, self._steps, self._segment = state["best"], state["steps"], state["segment"]
        self._streak, self._seconds = state["streak"], state["seconds"]
        self._rewards = state.get("rewards", [])  # checkpoints of earlier versions have none
        self._adaptation.value = state["learning_rate"]
        self._load_learner_state(state)

    def _learner_state(self) -> dict[str, Any]:
        """Return the state of the algorithm and its simulations for a checkpoint."""
        return {
            "learner": _parameters(self._learner, self._algorithm.state),
            "normalizer": self._policy.normalizer.state_dict(),
            "env": self._env.state_dict(),
            "episodes": _running_episodes(self._learner),
        }

    def _load_learner_state(self, state: dict[str, Any]) -> None:
        _set_parameters(self._learner, state["learner"], self._algorithm.state)
        self._learner.num_timesteps = self._steps
        self._policy.normalizer.load_state_dict(state["normalizer"])
        if state["env"]:
            self._env.load_state_dict(state["env"])
            _continue_episodes(self._learner, state["episodes"])

    def _final_choice(self) -> dict[str, Any]:
        """Return the best validation; if the targets were not reached, the finalist that did best on other tracks."""
        if self._streak >= self._config.patience or len(self._best) == 1:
            return self._best[0]
        config = replace(self._config, validation_episodes=max(FINAL_EPISODES, self._config.validation_episodes))
        validation = make_validation(self._validate_on, config, "final validation")
        for finalist in self._best:
            self._policy.load_state_dict(finalist["weights"])
            found = validation.measure(self._policy)
            finalist |= {name: found[name] for name in ("success", "reward_per_step")}
        return max(self._best, key=_quality)

    def _keep_best(self) -> str:
        """Write the best validated weights of a run that cannot go on; return a sentence about them."""
        if not self._best:
            return "no policy had been validated before"
        self._save_policy(dict(self._best[0]))
        success = self._best[0]["success"]
        return (
            f"the best policy so far (validation success {success:.2f}) is in {self._folder.path / 'policy'}; mend the "
            "environment, then go on from the last checkpoint with --resume"
        )

    def _finish(self) -> None:
        began = time.perf_counter()
        best = self._final_choice()
        self._seconds += time.perf_counter() - began
        best = self._save_policy(best)
        reached = self._streak >= self._config.patience
        self._folder.finish(
            {
                **best,
                "steps": self._steps,
                "seconds": self._seconds,
                "reached_target": reached,
                "failures": self._env.failures,
            }
        )
        ending = f"success {best['success']:.2f} after {self._steps / 1e6:.2f} M steps, {self._seconds:.0f} s"
        self._progress.end(self._name, ending)

    def _save_policy(self, best: dict[str, Any]) -> dict[str, Any]:
        """Write a validated policy; return its figures without its weights."""
        self._policy.load_state_dict(best.pop("weights"))
        parents = [] if self._init is None else [self._init.manifest.as_parent(" ".join(self._init.manifest.skills))]
        save_policy(
            self._folder.path / "policy",
            self._policy,
            robot=self._env.robot,
            skills=[s.id for s in self._skills],
            skill_records=records_of(self._skills),
            operation="train",
            parents=parents,
            seed=self._config.seed,
            metrics={**best, "steps": self._steps, "seconds": self._seconds},
            config=as_plain(self._config),
        )
        return best


def _env_config(config: TrainConfig) -> EnvConfig:
    """Return the tracks and levels of the training's simulations."""
    own = config.raise_above if config.curriculum and config.levels == "own" else None
    return EnvConfig(graded=config.curriculum, own_levels=own, randomization=config.randomization)


def _quality(validated: dict[str, Any]) -> tuple[float, float]:
    return validated["success"], validated["reward_per_step"]


def _running_episodes(learner: BaseAlgorithm) -> dict[str, Any]:
    """Return the last observations of a learner and the statistics of the episodes that ended."""
    return {
        "observations": torch.from_numpy(np.array(learner._last_obs)),
        "starts": torch.from_numpy(np.array(learner._last_episode_starts)),
        "infos": list(learner.ep_info_buffer or ()),
        "successes": list(learner.ep_success_buffer or ()),
    }


def _continue_episodes(learner: BaseAlgorithm, state: dict[str, Any]) -> None:
    learner._last_obs, learner._last_episode_starts = state["observations"].numpy(), state["starts"].numpy()
    learner.ep_info_buffer = deque(state["infos"], maxlen=learner._stats_window_size)
    learner.ep_success_buffer = deque(state["successes"], maxlen=learner._stats_window_size)


def _parameters(learner: BaseAlgorithm, more: Sequence[str]) -> dict[str, Any]:
    """Return weights and optimizer states of a learner, and the tensors that ``more`` names."""
    return {**learner.get_parameters(), **{name: getattr(learner, name).detach().clone() for name in more}}


def _set_parameters(learner: BaseAlgorithm, state: dict[str, Any], more: Sequence[str]) -> None:
    learner.set_parameters({name: value for name, value in state.items() if name not in more})
    for name in more:
        getattr(learner, name).data.copy_(state[name])
