"""Other libraries' own code, driven on policykd's simulation: Distillation of rsl_rl 5, BC and DAgger of imitation.

They are installed in an environment of their own; see docs/peers.md. Each row of the simulation is labeled by the
expert of its own skill: the per-skill dispatch that these libraries leave to their user.
"""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

import numpy as np
import torch
from torch import nn

from peer_trial import HIDDEN, Trial
from policykd.agents.function_policy import FunctionPolicy
from policykd.agents.policy import Policy


def as_policy(trial: Trial, function: Any) -> Policy:
    """Return a library's student as a policy that can be validated.

    Args:
        trial: the trial.
        function: from observations (n, features) to actions (n, actions), NumPy.
    """
    return FunctionPolicy(function, trial.teachers[0].skill.group_sizes, [-1.0] * trial.actions, [1.0] * trial.actions)


class _Dispatch:
    """The teacher that rsl_rl asks: every simulation's own expert."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    def __call__(self, observations: Any) -> torch.Tensor:
        return self._trial.label(observations["policy"])

    def to(self, device: str) -> _Dispatch:
        """Return itself."""
        return self

    def reset(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the experts keep no state."""

    def get_hidden_state(self) -> None:
        """Return None."""

    def eval(self) -> None:
        """Do nothing."""


def distill_with_rsl_rl(trial: Trial) -> None:
    """rsl_rl 5's ``Distillation``: the student acts with noise, its states are labeled, fitted and dropped.

    Its own defaults (gradient over 15 steps, Adam at 1e-3, empirical normalization, 120 steps per simulation and
    update), except for the epochs per update, with which it draws as many labeled states as the other methods.
    """
    from rsl_rl.algorithms import Distillation
    from rsl_rl.models import MLPModel
    from rsl_rl.storage import RolloutStorage
    from tensordict import TensorDict

    torch.manual_seed(trial.seed)
    env, budget, length = trial.simulation, trial.budget, 120

    def wrapped(rows: np.ndarray) -> Any:
        return TensorDict({"policy": torch.from_numpy(rows)}, batch_size=[len(rows)])

    observations = wrapped(env.reset())
    student = MLPModel(
        observations, {"student": ["policy"]}, "student", trial.actions, hidden_dims=list(HIDDEN),
        obs_normalization=True, distribution_cfg={"class_name": "GaussianDistribution", "init_std": 0.1},
    )  # fmt: skip
    storage = RolloutStorage("distillation", env.num_envs, length, observations, [trial.actions], "cpu")
    iterations = max(1, round(trial.states_per_round / (length * env.num_envs)))
    drawn = budget.updates * budget.minibatch / iterations
    epochs = max(1, round(drawn / (length * env.num_envs)))
    algorithm = Distillation(student, _Dispatch(trial), storage, num_learning_epochs=epochs)
    algorithm.train_mode()
    for _ in range(budget.rounds):
        for _ in range(iterations):
            for _ in range(length):
                actions = algorithm.act(observations)
                rows, rewards, dones, _ = env.step(actions.numpy())
                observations = wrapped(rows)
                algorithm.process_env_step(observations, torch.from_numpy(rewards), torch.from_numpy(dones), {})
            algorithm.update()
        trial.states = env.steps
        trial.measure(as_policy(trial, _rsl_rl_actor(student)))


def _rsl_rl_actor(student: Any) -> Any:
    """Return the mean actions of a student as it is now."""
    network = copy.deepcopy(nn.Sequential(student.obs_normalizer, student.mlp)).eval()

    def act(rows: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.from_numpy(rows)).numpy()

    return act


def _cloning(trial: Trial) -> Any:
    """Return imitation's behavior cloning with a student of the usual size that normalizes its observations."""
    from imitation.algorithms import bc
    from imitation.policies.base import NormalizeFeaturesExtractor
    from stable_baselines3.common.policies import ActorCriticPolicy

    torch.manual_seed(trial.seed)
    env = trial.simulation
    policy = ActorCriticPolicy(
        env.observation_space, env.action_space, lambda _: 1e-3, net_arch=list(HIDDEN), activation_fn=nn.ELU,
        features_extractor_class=NormalizeFeaturesExtractor,
    )  # fmt: skip
    return bc.BC(
        observation_space=env.observation_space, action_space=env.action_space, rng=np.random.default_rng(trial.seed),
        policy=policy, batch_size=trial.budget.minibatch, device="cpu",
    )  # fmt: skip


def _imitation_actor(policy: Any) -> Any:
    policy.action_dist.distribution = None  # that of the last batch, which cannot be copied
    fixed = copy.deepcopy(policy)

    def act(rows: np.ndarray) -> np.ndarray:
        return fixed.predict(rows, deterministic=True)[0]

    return act


@contextlib.contextmanager
def _quiet() -> Any:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def clone_with_imitation(trial: Trial) -> None:
    """The ``BC`` of imitation on states in which the experts act, without noise."""
    from imitation.data.types import Transitions

    env, learner = trial.simulation, _cloning(trial)
    seen, labels, rows = [], [], env.reset()
    for _ in range(trial.budget.rounds):
        for _ in range(trial.steps):
            actions = trial.label(torch.from_numpy(rows)).numpy()
            seen.append(rows)
            labels.append(actions)
            rows, *_ = env.step(actions)
        observations, acts = np.concatenate(seen), np.concatenate(labels)
        ends = np.zeros(len(acts), np.bool_)  # cloning reads neither them nor the observations that follow
        learner.set_demonstrations(Transitions(observations, acts, np.array([{}] * len(acts)), observations, ends))
        with _quiet():
            learner.train(n_batches=trial.budget.updates, progress_bar=False, log_interval=10**9)
        trial.states = env.steps
        trial.measure(as_policy(trial, _imitation_actor(learner.policy)))


def dagger_with_imitation(trial: Trial) -> None:
    """The ``DAggerTrainer`` of imitation: labels of all rounds; the experts' share of the acting falls to 0."""
    from imitation.algorithms.dagger import DAggerTrainer, LinearBetaSchedule
    from imitation.util.logger import configure

    env = trial.simulation
    with _quiet():
        trainer = DAggerTrainer(
            venv=env, scratch_dir=trial.folder / "dagger", rng=np.random.default_rng(trial.seed),
            beta_schedule=LinearBetaSchedule(trial.budget.rounds), bc_trainer=_cloning(trial),
            custom_logger=configure(trial.folder / "log", format_strs=[]),
        )  # fmt: skip
    for _ in range(trial.budget.rounds):
        collector = trainer.create_trajectory_collector()
        rows = collector.reset()
        with _quiet():
            for _ in range(trial.steps):  # the library keeps episodes that ended, so all but the last ones of falls
                rows, *_ = collector.step(trial.label(torch.from_numpy(rows)).numpy())
            trainer.extend_and_update(
                {  # the library would log rollouts of its own, whose steps are not part of the budget
                    "n_batches": trial.budget.updates, "progress_bar": False, "log_interval": 10**9,
                    "log_rollouts_venv": None,
                }
            )  # fmt: skip
        trial.states = env.steps
        trial.measure(as_policy(trial, _imitation_actor(trainer.policy)))


LIBRARIES = {
    "rsl_rl distillation": (distill_with_rsl_rl, "rsl_rl", "rsl-rl-lib"),
    "imitation DAgger": (dagger_with_imitation, "imitation", "imitation"),
    "imitation behavior cloning": (clone_with_imitation, "imitation", "imitation"),
}
"""Method to its function, module and distribution."""
