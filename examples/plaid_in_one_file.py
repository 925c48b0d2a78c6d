"""PLAID in one file, to be read from top to bottom: gymnasium, torch and NumPy only, nothing of policykd.

Berseth, Xie, Cernek and van de Panne, "Progressive Reinforcement Learning with Distillation for Multi-Skilled Motion
Control" (ICLR 2018). Skills come one after the other. For each of them

1. the policy so far starts the training of an expert (transfer);
2. where the skill needs inputs that the policy does not have, they are injected first, without changing an action;
3. student and expert are distilled into the next student: the student labels the skills that it has, the expert the
   new one, in states that the learner itself visits (DAgger).

The robot is a cart that holds a speed: forward, backward, and over hills, whose slopes it has to see. The parts are
those of policykd, and a test compares them number by number; normalizers, students' critics, validations, robots, files
and resuming are left out. ``python examples/plaid_in_one_file.py`` takes about a minute.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import nn

# ---------------------------------------------------------------------------------------------------------- the skills

STEPS = 60
"""Steps of an episode; none ends earlier."""


@dataclass(frozen=True)
class Skill:
    """What the cart has to do.

    Attributes:
        name: name in the table of results.
        speed: speed to hold, m/s.
        hills: largest slope, as a share of the cart's force.
        sees: whether a policy for it reads the slopes.
    """

    name: str
    speed: float
    hills: float = 0.0
    sees: bool = False


SKILLS = (Skill("forward", 1.0), Skill("backward", -1.0), Skill("hills", 1.0, 0.8, sees=True))
BLIND, SIGHTED = 2, 4
"""Number of inputs: speed and commanded speed; with two slopes."""


class Cart(gymnasium.Env):
    """A cart on a hilly line. The reward is 1 at the commanded speed."""

    observation_space = spaces.Box(-np.inf, np.inf, (SIGHTED,), np.float64)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, skill: Skill) -> None:
        self.skill = skill

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Begin at rest, at a random place of random hills."""
        super().reset(seed=seed)
        self.x, self.v, self.phase = self.np_random.uniform(0, 10), 0.0, self.np_random.uniform(0, 6.28)
        return self.observe(), {}

    def slope(self, ahead: float) -> float:
        """Return the slope at a distance ahead."""
        return self.skill.hills * float(np.sin(4.0 * (self.x + ahead) + self.phase))

    def observe(self) -> np.ndarray:
        """Return speed, commanded speed, slope here and slope ahead."""
        return np.array([self.v, self.skill.speed, self.slope(0.0), self.slope(0.1)])

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Push for 0.1 s."""
        force = float(np.clip(action[0], -1.0, 1.0)) - self.slope(0.0)
        self.v += 0.1 * (4.0 * force - self.v)
        self.x += 0.1 * self.v
        return self.observe(), float(np.exp(-((self.v - self.skill.speed) ** 2))), False, False, {}


def carts(skill: Skill, count: int) -> gymnasium.vector.VectorEnv:
    """Return several carts that are stepped together."""
    return gymnasium.vector.SyncVectorEnv([lambda: Cart(skill)] * count)


def tensor(values: np.ndarray) -> torch.Tensor:
    """Return numbers in the precision of the networks."""
    return torch.as_tensor(values, dtype=torch.float32)


# ---------------------------------------------------------------------------------------------------------- the policy


class Policy(nn.Module):
    """The mean action of a Gaussian in the first ``inputs`` observations, its spread, and a critic."""

    def __init__(self, inputs: int, hidden: int = 32) -> None:
        super().__init__()
        self.inputs = inputs
        self.actor = nn.Sequential(nn.Linear(inputs, hidden), nn.ELU(), nn.Linear(hidden, 1))
        self.critic = nn.Sequential(nn.Linear(inputs, hidden), nn.ELU(), nn.Linear(hidden, 1))
        self.log_std = nn.Parameter(torch.full((1,), -0.7))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Return mean actions (n, 1)."""
        return self.actor(observations[:, : self.inputs])

    def value(self, observations: torch.Tensor) -> torch.Tensor:
        """Return expected returns (n,)."""
        return self.critic(observations[:, : self.inputs]).squeeze(1)

    def gaussian(self, observations: torch.Tensor) -> torch.distributions.Normal:
        """Return the distribution that explores."""
        return torch.distributions.Normal(self(observations), self.log_std.exp())


def inject(policy: Policy, inputs: int) -> Policy:
    """Return a policy that reads more observations and acts as before: their weights are zeros at first."""
    new = copy.deepcopy(policy)
    new.inputs = inputs
    for network in (new.actor, new.critic):
        old = network[0]
        network[0] = nn.Linear(inputs, old.out_features)
        with torch.no_grad():
            network[0].weight.zero_()
            network[0].weight[:, : policy.inputs] = old.weight
            network[0].bias.copy_(old.bias)
    return new


# ---------------------------------------------------------------------------------------------- an expert learns: PPO


def returns(rewards: torch.Tensor, values: torch.Tensor, gamma: float = 0.95, lam: float = 0.95) -> torch.Tensor:
    """Return TD(lambda) targets of the critic (T, n); values are (T + 1, n), the last ones after the end."""
    targets, gain = torch.zeros_like(rewards), torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        gain = rewards[t] + gamma * values[t + 1] - values[t] + gamma * lam * gain
        targets[t] = values[t] + gain
    return targets


def train_expert(policy: Policy, skill: Skill, iterations: int, seed: int, count: int = 16) -> Policy:
    """Return the policy after proximal policy optimization on one skill."""
    policy, env = copy.deepcopy(policy), carts(skill, count)
    policy.log_std.data.fill_(-0.7)  # a policy that knows its old skill well hardly explores a new one
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    for iteration in range(iterations):
        observation, rows = tensor(env.reset(seed=seed + 1000 * iteration)[0]), []
        for _ in range(STEPS):
            with torch.no_grad():
                action = policy.gaussian(observation).sample()
            following, reward, *_ = env.step(action.numpy())
            rows.append((observation, action, tensor(reward)))
            observation = tensor(following)
        seen, taken, rewards = (torch.stack(column) for column in zip(*rows, strict=True))
        with torch.no_grad():
            values = torch.stack([policy.value(row) for row in (*seen, observation)])
            old = policy.gaussian(seen.flatten(0, 1)).log_prob(taken.flatten(0, 1))
        targets = returns(rewards, values)
        gains = (targets - values[:-1]).flatten()
        gains = (gains - gains.mean()) / (gains.std() + 1e-8)
        seen, taken, targets = seen.flatten(0, 1), taken.flatten(0, 1), targets.flatten()
        for rows in (rows for _ in range(5) for rows in torch.randperm(len(seen)).split(256)):
            ratio = (policy.gaussian(seen[rows]).log_prob(taken[rows]) - old[rows]).exp().squeeze(1)
            gain = torch.min(ratio * gains[rows], ratio.clamp(0.8, 1.2) * gains[rows]).mean()
            loss = (policy.value(seen[rows]) - targets[rows]).square().mean() - gain
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
    return policy


# --------------------------------------------------------------------------------- policies are distilled: DAgger


def expert_share(round_: int) -> float:
    """Return the share of episodes in which the teacher acts: all of the first round, then half as many per round."""
    return 0.5**round_


@torch.no_grad()
def collect(
    student: Policy, teacher: Policy, skill: Skill, share: float, noise: float, generator: torch.Generator, n: int = 8
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return states (T n, inputs) and their labels, the teacher's mean actions, of one episode per cart.

    In each episode either the teacher or the student acts, with a little noise, so that states around its path are
    labeled, too.
    """
    env = carts(skill, n)
    observation = tensor(env.reset(seed=int(torch.randint(2**31, (), generator=generator)))[0])
    teacher_acts = (torch.rand(n, generator=generator) < share)[:, None]
    states, labels = [], []
    for _ in range(STEPS):
        label = teacher(observation).clamp(-1.0, 1.0)
        states.append(observation)
        labels.append(label)
        action = torch.where(teacher_acts, label, student(observation))
        observation = tensor(env.step((action + noise * torch.randn(n, 1, generator=generator)).numpy())[0])
    return torch.cat(states), torch.cat(labels)


def distillation_loss(mean: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Return the squared error; a mean beyond a label at its bound is the same action, and costs nothing."""
    same = (label.abs() >= 1) & (mean * label >= 1)
    return (torch.where(same, label, mean) - label).square().mean()


def fit(
    student: Policy,
    batches: Sequence[tuple[torch.Tensor, torch.Tensor]],
    learning_rate: float,
    before: int = 0,
    averaging: float = 0.998,
) -> None:
    """Fit the actor to minibatches of states and labels; it becomes the moving average of what Adam visits.

    Args:
        student: changed in place.
        batches: minibatches, one step each.
        learning_rate: step size.
        before: steps made in earlier rounds: the average forgets its beginning faster than later weights.
        averaging: weight of the old average, after the beginning.
    """
    learner = copy.deepcopy(student.actor)
    optimizer = torch.optim.Adam(learner.parameters(), lr=learning_rate)
    for step, (states, labels) in enumerate(batches, before):
        loss = distillation_loss(learner(states[:, : student.inputs]), labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        keep = min(averaging, (1 + step) / (10 + step))
        with torch.no_grad():
            for average, value in zip(student.actor.parameters(), learner.parameters(), strict=True):
                average.lerp_(value, 1 - keep)


def distill(student: Policy, teachers: Sequence[tuple[Skill, Policy]], rounds: int, updates: int, seed: int) -> Policy:
    """Return a student of all teachers, each of which labels its own skill."""
    student, generator = copy.deepcopy(student), torch.Generator().manual_seed(seed)
    pools: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in teachers]
    for round_ in range(rounds):
        for pool, (skill, teacher) in zip(pools, teachers, strict=True):
            pool.append(collect(student, teacher, skill, expert_share(round_), 0.1, generator))
        merged = [tuple(map(torch.cat, zip(*pool, strict=True))) for pool in pools]  # all rounds so far: aggregation
        batches = []
        for _ in range(updates):  # as many states of every skill
            rows = [torch.randint(len(states), (64,), generator=generator) for states, _ in merged]
            batches.append(tuple(torch.cat([part[k][r] for part, r in zip(merged, rows, strict=True)]) for k in (0, 1)))
        fit(student, batches, 2e-3, round_ * updates)
    return student


# ---------------------------------------------------------------------------------------------------- all together


@torch.no_grad()
def reward(policy: Policy, skill: Skill, count: int = 16) -> float:
    """Return the mean reward per step of the mean actions, on the same hills for every policy."""
    env = carts(skill, count)
    observation, total = tensor(env.reset(seed=99)[0]), 0.0
    for _ in range(STEPS):
        following, rewards, *_ = env.step(policy(observation).numpy())
        observation, total = tensor(following), total + float(rewards.mean())
    return total / STEPS


def plaid(iterations: int = 30, rounds: int = 4, updates: int = 200, seed: int = 0) -> np.ndarray:
    """Learn the skills one after the other, and return rewards (stages, skills) and print them."""
    torch.manual_seed(seed)
    student, table = Policy(BLIND), []
    print(f"{'after':10}" + "".join(f"{skill.name:>10}" for skill in SKILLS))
    for i, skill in enumerate(SKILLS):
        if skill.sees and student.inputs == BLIND:
            student = inject(student, SIGHTED)
        expert = train_expert(student, skill, iterations, seed=seed + i)
        if i:
            teachers = [*((old, student) for old in SKILLS[:i]), (skill, expert)]
            student = distill(expert, teachers, rounds, updates, seed=seed + i)  # starts from the newest weights
        else:
            student = expert
        table.append([reward(student, one) for one in SKILLS])
        row = "".join(f"{value:10.3f}" for value in table[-1])
        print(f"{skill.name:10}{row}   its expert {reward(expert, skill):.3f}")
    return np.array(table)


if __name__ == "__main__":
    plaid()
