"""PPO with a leash: every update also keeps the policy near the actions of its start, skill by skill.

The updates are those of :mod:`policykd.agents.training.device_ppo`, whose rollouts and advantages it takes, on any
environment of ours. The normalizer does not change: the weights were fitted under it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from policykd.agents.policy import Policy
from policykd.agents.training.device_ppo import VALUE_WEIGHT, Rollout, advantages, clipped_surrogate
from policykd.agents.training.sb3_policy import TwoRates, log_density
from policykd.divergences import gaussian_kl
from policykd.envs.make import AnyEnv
from policykd.finetune.actors import actor_of
from policykd.finetune.config import FinetuneConfig
from policykd.finetune.critics import Critic, OwnCritic, PrivilegedCritic
from policykd.finetune.guidance import GUIDANCES, Guide, Guided, Heard
from policykd.merge.data.pool import StatePool


@dataclass(frozen=True)
class Leash:
    """Weights of the divergence from the start.

    Attributes:
        simulated: (n,) weight of each simulation.
        recorded: weight on recorded states.
        guidance: weight of the loss of teachers.
    """

    simulated: torch.Tensor
    recorded: float
    guidance: float = 0.0


class LeashedPpo:
    """Trains a policy in place, near its start.

    Args:
        policy: the policy; its exploration noise is set to the configured one.
        env: the environment; it offers the groups that the policy and its teachers read.
        config: settings.
        seed: seed of exploration and minibatches.
        recorded: recorded states with the actions to keep in them; None for none.
        skills: number of skills in ``recorded``.
        guide: teachers of the simulations; None for none.
    """

    def __init__(
        self, policy: Policy, env: AnyEnv, config: FinetuneConfig, seed: int, recorded: StatePool | None, skills: int,
        guide: Guide | None = None,
    ) -> None:  # fmt: skip
        self._guide, self._heard = guide, Heard(torch.zeros(0), torch.zeros(0))
        self._earns = 1.0 if guide is None or guide.guidance.earns else (~guide.known).to(policy.log_std)
        self._policy, self._env, self._config = policy, env, config
        self._actor = actor_of(policy, copy.deepcopy(policy).eval().requires_grad_(False))
        self._critic: Critic = OwnCritic(policy, env.skill.columns)
        if config.privileged:
            self._critic = PrivilegedCritic(policy, env.skill, config.privileged, config.ppo, seed)
        torch.nn.init.constant_(policy.log_std, math.log(config.noise))
        self._draw = torch.Generator().manual_seed(seed)
        self._recorded, self._recorded_skills = recorded, skills
        self.optimizer = self._fresh_optimizer()
        self._rollout = Rollout.empty(config.ppo.rollout_steps, env.num_envs, policy)
        self._flat: torch.Tensor | None = None

    def _fresh_optimizer(self) -> TwoRates:
        ppo = self._config.ppo
        return TwoRates(self._policy, ppo.learning_rate, ppo.critic_rate, ppo.max_grad_norm)

    def seed(self, seed: int) -> None:
        """Restart the stream of exploration and minibatches."""
        self._draw.manual_seed(seed)

    def begin_again(self) -> None:
        """Forget the optimizer's moments and the running episodes, after the policy's weights were replaced."""
        self.optimizer = self._fresh_optimizer()
        self.restart_episodes()

    def restart_episodes(self) -> None:
        """Begin the next rollout with new episodes."""
        self._flat = None

    def state_dict(self) -> dict[str, Any]:
        """Return the state that the next rollouts depend on, without policy and environment."""
        guide = {} if self._guide is None else {"guide": self._guide.state_dict()}
        return {
            "optimizer": self.optimizer.state_dict(), "flat": self._flat, "draw": self._draw.get_state(),
            "memories": list(self._actor.memories()), "critic": self._critic.state_dict(), **guide,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a :meth:`state_dict`."""
        self.optimizer.load_state_dict(state["optimizer"])
        self._flat = state["flat"]
        own, start = state["memories"]
        self._actor.remember((own, start))
        self._critic.load_state_dict(state["critic"])
        if self._guide is not None:
            self._guide.load_state_dict(state["guide"])
        self._draw.set_state(state["draw"])

    @torch.no_grad()
    def collect(self) -> Rollout:
        """Let the policy act for one rollout and return it."""
        if self._flat is None:
            self._flat = torch.cat(list(self._env.reset(stagger=True).values()), dim=1)
            self._actor.begin()
            if self._guide is not None:
                self._guide.begin()
        self._actor.begin_rollout()
        self._critic.begin_rollout()
        policy, rollout, ppo = self._policy, self._rollout, self._config.ppo
        std, columns, heard = policy.log_std.exp(), self._env.skill.columns, list[tuple[torch.Tensor, torch.Tensor]]()
        for t in range(ppo.rollout_steps):
            raw, mirrored = policy.canonical(policy.select(self._flat, columns))
            features = policy.normalizer(raw)
            rollout.values[t] = self._critic.judge(self._flat, features)
            noise = torch.randn(len(raw), policy.actions, generator=self._draw)
            actions = self._actor.act(raw, features) + std * noise
            step = self._env.step(policy.oriented(actions, mirrored))
            self._actor.forget(step.terminated | step.truncated)
            if self._guide is not None:
                labels, theirs = self._guide.answers(self._flat, policy.actions)
                heard.append((policy.oriented(labels, mirrored), theirs))  # a mirror is its own inverse
                self._guide.forget(step.terminated | step.truncated)
            rewards = (1 - ppo.gamma) * step.reward * self._earns
            ids = step.episodes.ids
            late = step.truncated[ids]
            if late.any():
                rewards[ids[late]] += ppo.gamma * self._critic.value(step.final_flat[late])
            rollout.features[t], rollout.raw[t], rollout.actions[t] = features, raw, actions
            rollout.log_probs[t] = log_density(noise, policy.log_std)
            rollout.rewards[t], rollout.ended[t] = rewards, step.terminated | step.truncated
            self._flat = step.flat
        if self._guide is not None:
            self._heard = Heard(*(torch.stack(part) for part in zip(*heard, strict=True)))
            earned = self._heard.rewards(
                self._guide.guidance, rollout.actions, rollout.log_probs, policy.log_std, rollout.ended
            )
            rollout.rewards += (1 - ppo.gamma) * earned * self._guide.known
        last = self._critic.value(self._flat)
        rollout.advantages = advantages(rollout.rewards, rollout.values, rollout.ended, last, ppo.gamma, ppo.gae_lambda)
        return rollout

    def update(self, rollout: Rollout, rate: float, leash: Leash, *, actor: bool) -> dict[str, float]:
        """Learn from a rollout.

        Args:
            rollout: from :meth:`collect`.
            rate: step size of the actor.
            leash: weights of the divergence from the start.
            actor: whether the actor learns, too; otherwise only the critic does.

        Returns:
            ``divergence`` of the new policy from the one that acted, and ``leash``, the divergence from the start under
            the exploration's spread, both means over the states, nats.
        """
        ppo = self._config.ppo
        actions = rollout.actions.flatten(0, 1)
        log_probs, values, gains = (part.flatten() for part in (rollout.log_probs, rollout.values, rollout.advantages))
        weight = leash.simulated.expand_as(rollout.rewards).flatten()
        before, kept = self._answers(rollout), self._actor.start_means(rollout)
        for group in self.optimizer.param_groups:  # the optimizer gives the critic its own
            group["lr"] = rate
        self._critic.prepare(settled=actor)
        for _ in range(ppo.epochs):
            for rows in self._actor.minibatches(rollout, ppo.minibatch, self._draw):
                loss = VALUE_WEIGHT * self._critic.loss(rollout, rows, (gains + values)[rows])
                if actor:
                    mean = self._actor.means(rollout, rows)
                    loss = loss + clipped_surrogate(
                        self._policy, mean, actions[rows], log_probs[rows], gains[rows], ppo.clip_range
                    )
                    loss = loss + (weight[rows] * self._distance(mean, kept[rows])).mean()
                    loss = loss + leash.recorded * self._recorded_distance(len(rows))
                    if self._guide is not None and self._guide.guidance.loss is not None:
                        loss = loss + leash.guidance * self._guided_loss(rollout, mean, rows)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self._critic.step()
        after = self._answers(rollout)
        return {
            "divergence": float(gaussian_kl(after, before, direction="forward", reduction="batchmean")),
            "leash": float(self._distance(after[0], kept).mean()),
        }

    def _distance(self, mean: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Return (n,) divergences of Gaussians with these means and the spread of the exploration, nats."""
        return 0.5 * ((mean - kept) * torch.exp(-self._policy.log_std.detach())).square().sum(dim=1)

    def _guided_loss(self, rollout: Rollout, mean: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return the teachers' loss of the mean actions (n, actions) in rows (n,) of a rollout; 0 without a teacher."""
        assert self._guide is not None
        assert self._guide.guidance.loss is not None
        policy, heard = self._policy, self._heard
        noise = (rollout.actions.flatten(0, 1)[rows] - mean) * torch.exp(-policy.log_std)
        states = Guided(
            divergence=self._distance(mean, heard.labels.flatten(0, 1)[rows]),
            ratio=torch.exp(log_density(noise, policy.log_std) - rollout.log_probs.flatten()[rows]),
            clip=self._config.ppo.clip_range,
            teacher_values=heard.values.flatten()[rows],
            values=rollout.values.flatten()[rows],
        )
        known = self._guide.known.expand_as(rollout.rewards).flatten()[rows]
        return (self._guide.guidance.loss(states) * known).mean()

    def _recorded_distance(self, count: int) -> torch.Tensor:
        if self._recorded is None:
            return torch.zeros(())
        each = max(1, count // (2 * self._recorded_skills))
        batch = self._recorded.sample([each] * self._recorded_skills, self._draw)
        raw, mirrored = self._policy.canonical(batch.observations)
        labels = self._policy.oriented(batch.labels, mirrored)  # a mirror is its own inverse
        return self._distance(self._policy.actor(self._policy.normalizer(raw)), labels).mean()

    @torch.no_grad()
    def _answers(self, rollout: Rollout) -> tuple[torch.Tensor, torch.Tensor]:
        return self._actor.means(rollout), self._policy.log_std.clone()

    def bound_noise(self, bound: float) -> None:
        """Lower the exploration noise to at most ``bound``, units of the action."""
        self._policy.log_std.data.clamp_(max=math.log(bound))


def leash_of(config: FinetuneConfig, is_target: Sequence[bool], spent: float, scale: float) -> Leash:
    """Return the weights of the leash at a time.

    Args:
        config: settings.
        is_target: whether each simulation has a skill that is to improve.
        spent: share of the budget that is spent, in [0, 1].
        scale: factor of all weights, which grows when weights were taken back.
    """
    left = 1.0 - min(1.0, spent / config.leash_share) if config.leash_share > 0 else 0.0
    weights = [config.leash * left if target else config.rehearsal for target in is_target]
    return Leash(scale * torch.tensor(weights), scale * config.rehearsal, guidance_weight(config, spent))


def guidance_weight(config: FinetuneConfig, spent: float) -> float:
    """Return the weight of the teachers' loss when this share of the budget is spent."""
    if not config.guidance or not GUIDANCES[config.guidance].falls or config.guidance_share == 0:
        return config.guidance_weight
    return config.guidance_weight * (1.0 - min(1.0, spent / config.guidance_share))
