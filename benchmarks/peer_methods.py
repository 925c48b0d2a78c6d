"""The methods of peers.py that need no other library: policykd's merge, proximal policy distillation, weights, PPO."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from peer_trial import HIDDEN, Trial
from policykd.agents.architecture import Architecture
from policykd.agents.files.policy_file import load_policy
from policykd.agents.policy import Policy
from policykd.agents.training import PpoConfig, TrainConfig, train_expert
from policykd.merge import merge_experts
from policykd.merge.config import OptimizerName
from policykd.merge.student import first_student
from policykd.merge.weights import WeightMergeConfig, merge_weights


def merge_with_policykd(optimizer: OptimizerName, trial: Trial) -> None:
    """The merge of policykd with the settings of its demo.

    Its own log tells the states and retention of every round, on the same validation.

    Args:
        optimizer: what makes the gradient steps; the demo has ``adam``.
        trial: the trial.
    """
    out = trial.folder / "merge"
    result = merge_experts(trial.teachers, out, trial.config(optimizer=optimizer), resume=True)
    rows = [json.loads(line) for line in (out / "progress.jsonl").read_text().splitlines()]
    trial.states = result.states
    trial.measure(load_policy(result.policy_path).policy)
    last = trial.curve.pop()
    marks = [(float(mark), states) for mark, states in result.states_to_retention.items() if states is not None]
    reached: list[float] = []
    for row in rows:
        reached += [mark for mark, states in marks if states == row["states"]]
        trial.curve.append(
            {
                "states": row["states"],
                "least_retention": min(row["retention"].values()),
                "retention": row["retention"],
                "success": row["success"],
                "marks": list(reached),
                "seconds": row["seconds"],
                "cpu_seconds": None,
            }
        )
    trial.curve[-1] |= {"cpu_seconds": last["cpu_seconds"], "seconds": last["seconds"]}


def distill_proximally(trial: Trial) -> None:
    """Proximal policy distillation (Spigler, TMLR 2025): PPO on the task's rewards, with a term toward the teacher.

    The loss is PPO's, plus ``lambda`` times the mean of ``max(ratio, 1 - epsilon) KL(teacher || student)``. ``ratio``
    is the probability of the taken action under the student now, over that when it acted; ``lambda`` is 1, the default
    of the author's implementation on stable-baselines3, whose loss this is.
    Departures: observations are normalized by the statistics of the first rollout, and the teacher is a Gaussian
    with the exploration noise of the skill's expert.
    """
    torch.manual_seed(trial.seed)
    env, budget, length = trial.simulation, trial.budget, 50
    student = first_student(trial.teachers, trial.config(), None)
    teacher_std = torch.stack([t.policy.log_std.detach().exp() for t in trial.teachers]).repeat_interleave(
        budget.envs, 0
    )
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-4, eps=1e-5)
    rows = torch.from_numpy(env.reset())
    student.update_normalizer(rows)
    iterations = max(1, round(trial.states_per_round / (length * env.num_envs)))
    epochs = max(1, round(budget.updates * budget.minibatch / trial.states_per_round))
    for _ in range(budget.rounds):
        for _ in range(iterations):
            rows, batch = _rollout(trial, student, rows, length, teacher_std)
            if trial.states == 0:
                student.update_normalizer(batch["rows"])
            trial.states = env.steps
            for _ in range(epochs):
                for part in torch.randperm(len(batch["rows"])).split(budget.minibatch):
                    loss = _proximal_loss(student, {name: values[part] for name, values in batch.items()})
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(student.parameters(), 1.0)
                    optimizer.step()
        trial.measure(copy.deepcopy(student).eval())


@torch.no_grad()
def _rollout(
    trial: Trial, student: Policy, rows: torch.Tensor, length: int, teacher_std: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the observations after a rollout, and its states with actions, labels, advantages and returns."""
    env, gamma, lambda_ = trial.simulation, 0.98, 0.95
    kept: dict[str, list[torch.Tensor]] = {
        name: [] for name in ("rows", "actions", "log_prob", "labels", "teacher_std", "values", "rewards", "going")
    }
    for _ in range(length):
        mean, std = student(rows), student.log_std.exp()
        actions = mean + std * torch.randn_like(mean)
        found, rewards, dones, infos = env.step(actions.numpy())
        reward = torch.from_numpy(rewards) * (1.0 - gamma)
        for i, info in enumerate(infos):
            if info.get("TimeLimit.truncated"):  # the episode would have gone on
                last = torch.from_numpy(info["terminal_observation"])[None]
                reward[i] += gamma * student.value(last)[0]
        values = (rows, actions, _log_prob(student, mean, actions), trial.label(rows), teacher_std, student.value(rows),
                  reward, 1.0 - torch.from_numpy(dones).float())  # fmt: skip
        for name, value in zip(kept, values, strict=True):
            kept[name].append(value)
        rows = torch.from_numpy(found)
    advantage, ahead, advantages = torch.zeros(len(rows)), student.value(rows), list[torch.Tensor]()
    for value, reward, going in zip(*(kept[name][::-1] for name in ("values", "rewards", "going")), strict=True):
        advantage = reward + gamma * going * ahead - value + gamma * lambda_ * going * advantage
        ahead = value
        advantages.append(advantage)
    flat = {name: torch.cat(values) for name, values in kept.items()}
    flat["advantages"] = torch.cat(advantages[::-1])
    return rows, flat


def _log_prob(student: Policy, mean: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    return torch.distributions.Normal(mean, student.log_std.exp()).log_prob(actions).sum(dim=1)


def _proximal_loss(student: Policy, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    epsilon, weight = 0.2, 1.0
    mean = student(batch["rows"])
    ratio = (_log_prob(student, mean, batch["actions"]) - batch["log_prob"]).exp()
    advantages = (batch["advantages"] - batch["advantages"].mean()) / (batch["advantages"].std() + 1e-8)
    surrogate = torch.minimum(ratio * advantages, ratio.clamp(1 - epsilon, 1 + epsilon) * advantages).mean()
    returns = batch["advantages"] + batch["values"]
    value_loss = 0.5 * (student.value(batch["rows"]) - returns).square().mean()
    teacher = torch.distributions.Normal(batch["labels"], batch["teacher_std"])
    own = torch.distributions.Normal(mean, student.log_std.exp())
    distance = torch.distributions.kl_divergence(teacher, own).sum(dim=1)
    return -surrogate + value_loss + weight * (ratio.clamp_min(1 - epsilon) * distance).mean()


def merge_weights_by(method: str, trial: Trial) -> None:
    """Merge the experts' weights without states; the student has the experts' own size.

    Args:
        method: ``average`` or ``task-arithmetic``.
        trial: the trial.
    """
    ancestor = trial.experts[0] if method == "task-arithmetic" else None
    out = trial.folder / method
    merge_weights(trial.experts, out, WeightMergeConfig(method), ancestor=ancestor)
    trial.measure(load_policy(out).policy)


def train_jointly(trial: Trial) -> None:
    """stable-baselines3's PPO on all skills at once, with policykd's default settings, from new weights."""
    steps = trial.budget.rl_factor * trial.budget.rounds * trial.states_per_round
    config = replace(
        TrainConfig(steps=steps, seed=trial.seed, threads=1, architecture=Architecture(HIDDEN, HIDDEN)), ppo=PpoConfig()
    )
    result = train_expert([t.skill for t in trial.teachers], trial.folder / "joint", config, resume=True)
    trial.states = steps
    trial.measure(load_policy(Path(result.policy_path)).policy)
