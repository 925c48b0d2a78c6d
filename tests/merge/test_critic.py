"""Value targets against a literal loop over episodes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from teacher_samples import TINY

from policykd.agents.policy import Policy
from policykd.merge import critic
from policykd.merge.critic import fit_critic, fit_critic_to_teachers, value_targets
from policykd.merge.data.pool import StatePool
from policykd.merge.data.rollout import LabeledRollout

STEPS, SIMS, FEATURES = 12, 5, 3


@pytest.fixture
def rollout():
    g = torch.Generator().manual_seed(1)
    terminated = torch.rand(STEPS, SIMS, generator=g) < 0.15
    truncated = (torch.rand(STEPS, SIMS, generator=g) < 0.15) & ~terminated
    rows = torch.nonzero(truncated.view(-1)).squeeze(1)
    running = torch.nonzero(~(terminated | truncated)[-1]).squeeze(1) + (STEPS - 1) * SIMS
    rows = torch.unique(torch.cat([rows, running]))
    return LabeledRollout(
        observations=torch.randn(STEPS * SIMS, FEATURES, generator=g),
        labels=torch.zeros(STEPS * SIMS, 2),
        rewards=torch.rand(STEPS, SIMS, generator=g),
        terminated=terminated,
        truncated=truncated,
        student_acted=torch.rand(STEPS, SIMS, generator=g) < 0.8,
        final_rows=rows,
        final_observations=torch.randn(len(rows), FEATURES, generator=g),
        teacher_values=torch.zeros(STEPS * SIMS),
        distances=torch.zeros(STEPS * SIMS),
    )


def oracle(policy, rollout, gamma, lam):
    """Lambda-return by its definition: a weighted sum of n-step returns, state by state."""
    with torch.no_grad():
        value = policy.value(rollout.observations).view(STEPS, SIMS).double().numpy()
        final = dict(zip(rollout.final_rows.tolist(), policy.value(rollout.final_observations).tolist(), strict=True))
    found = {}
    for i in range(SIMS):
        for t in range(STEPS):
            end = t
            while not (rollout.terminated[end, i] or rollout.truncated[end, i] or end == STEPS - 1):
                end += 1
            if not all(rollout.student_acted[k, i] for k in range(t, end + 1)):
                continue
            returns, discounted = [], 0.0
            for k in range(t, end + 1):
                discounted += gamma ** (k - t) * (1 - gamma) * float(rollout.rewards[k, i])
                bootstrap = 0.0 if rollout.terminated[k, i] else final.get(k * SIMS + i)
                if bootstrap is None:
                    bootstrap = value[k + 1, i]
                returns.append(discounted + gamma ** (k - t + 1) * bootstrap)
            n = len(returns)
            weights = [(1 - lam) * lam**k for k in range(n - 1)] + [lam ** (n - 1)]
            found[t * SIMS + i] = float(np.dot(weights, returns))
    return found


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
def test_equals_the_definition(rollout, lam):
    policy = Policy({"a": FEATURES}, 2, generator_seed=0)
    rows, targets = value_targets(policy, rollout, gamma=0.9, gae_lambda=lam)
    expected = oracle(policy, rollout, 0.9, lam)
    assert rows.tolist() == sorted(expected)
    np.testing.assert_allclose(targets.numpy(), [expected[r] for r in rows.tolist()], atol=1e-6)
    assert 0 < len(rows) < STEPS * SIMS  # both kinds of states occur


@pytest.fixture
def steps_taken(monkeypatch):
    """Number of gradient steps of every call that trains the critic."""
    taken, original = [], critic._regress

    def counted(student, optimizer, states, targets, updates, config, generator, group):
        taken.append(updates)
        original(student, optimizer, states, targets, updates, config, generator, group)

    monkeypatch.setattr(critic, "_regress", counted)
    return taken


def test_the_critic_takes_the_configured_steps_in_all(rollout, steps_taken):
    policy = Policy({"a": FEATURES}, 2, generator_seed=0)
    fit_critic(policy, [rollout], replace(TINY, updates=20), torch.Generator().manual_seed(0))
    assert steps_taken == [4, 4, 4, 4, 4]


def test_the_critic_learns_what_its_targets_say_and_the_actor_stays(rollout):
    policy = Policy({"a": FEATURES}, 2, generator_seed=0)
    actor = [p.detach().clone() for p in policy.actor.parameters()]
    rows, before = value_targets(policy, rollout, gamma=0.5, gae_lambda=1.0)
    error = (policy.value(rollout.observations[rows]) - before).square().mean().detach()
    config = replace(TINY, updates=400, minibatch=32, learning_rate=1e-2, gamma=0.5, gae_lambda=1.0)
    fit_critic(policy, [rollout], config, torch.Generator().manual_seed(0))
    after = (policy.value(rollout.observations[rows]) - before).square().mean().detach()
    assert after < 0.2 * error
    assert all(torch.equal(p, q) for p, q in zip(policy.actor.parameters(), actor, strict=True))


def test_teachers_values_weigh_every_skill_equally(rollout, monkeypatch):
    """A skill with ten times the states has no more rows in what the critic is fitted to."""
    dataset = StatePool(2)
    dataset.add(0, replace(rollout, teacher_values=torch.full((STEPS * SIMS,), 1.0)))
    for _ in range(10):
        dataset.add(1, replace(rollout, teacher_values=torch.full((STEPS * SIMS,), 3.0)))
    seen = {}
    monkeypatch.setattr(
        critic, "_regress", lambda s, o, states, targets, updates, c, g, p: seen.update(t=targets, n=updates)
    )
    policy = Policy({"a": FEATURES}, 2, generator_seed=0)
    fit_critic_to_teachers(policy, dataset, 2, replace(TINY, updates=7), torch.Generator().manual_seed(0))
    assert seen["n"] == 7
    assert torch.equal(seen["t"].unique(return_counts=True)[1], torch.tensor([STEPS * SIMS, STEPS * SIMS]))
