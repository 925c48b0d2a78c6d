"""Importance of weights and penalties, against autograd per sample, quadrature, finite differences and sums by hand."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save
from small_policies import small_policy
from teacher_samples import TINY

from policykd.agents.architecture import Architecture
from policykd.agents.policy import Policy
from policykd.envs.symmetry import MirrorSymmetry
from policykd.errors import ConfigError, ContractError, DatasetError
from policykd.merge.data.pool import Batch, StatePool
from policykd.merge.data.rollout import LabeledRollout
from policykd.merge.ewc import Importance, consolidate, fisher_diagonal, importance_parameters
from policykd.merge.fitting import Fitting
from policykd.merge.penalties import EwcPenalty, ReplayPenalty, check_matches

SYMMETRY = MirrorSymmetry(features=(1, 0, 2), actions=(1, 0), lead=(0, 1), feature_signs=(1.0, 1.0, -1.0))


def exact_policy(seed=0, symmetry=None):
    policy = Policy({"a": 3}, 2, Architecture((4,), (4,)), seed, symmetry).double()
    torch.nn.init.normal_(policy.actor[-1].weight, std=0.5, generator=torch.Generator().manual_seed(seed))
    policy.normalizer.update(torch.randn(50, 3, generator=torch.Generator().manual_seed(3)) * 2 + 0.5)
    policy.double().log_std.data.copy_(torch.tensor([-1.0, 0.3]))
    return policy


def states(count, seed=0):
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


NODES = ((0.0, 2 / 3), (math.sqrt(3.0), 1 / 6), (-math.sqrt(3.0), 1 / 6))
"""Gauss-Hermite nodes of a standard normal: exact for polynomials up to degree 5, and the integrand has degree 4."""


def fisher_by_quadrature(policy, observations):
    """The expectation of the squared gradient of log probabilities, state by state and action by action."""
    names = importance_parameters(policy)
    found = {name: torch.zeros_like(value) for name, value in names.items()}
    for state in observations:
        with torch.no_grad():
            at = policy.distribution(state[None])
        for draws in itertools.product(NODES, repeat=policy.actions):
            action = at.mean + at.stddev * torch.tensor([z for z, _ in draws], dtype=torch.float64)
            log_prob = policy.distribution(state[None]).log_prob(action).sum()
            gradients = torch.autograd.grad(log_prob, list(names.values()))
            for name, gradient in zip(names, gradients, strict=True):
                found[name] += math.prod(w for _, w in draws) * gradient**2 / len(observations)
    return found


@pytest.mark.parametrize("symmetry", [None, SYMMETRY])
def test_the_fisher_information_equals_its_definition(symmetry):
    """130 states need two chunks; the oracle sees six of them, so the others are copies."""
    policy = exact_policy(symmetry=symmetry)
    few = states(5)
    found = fisher_diagonal(policy, few.repeat(26, 1))
    expected = fisher_by_quadrature(policy, few)
    assert set(found) == {"log_std", *(name for name, _ in policy.named_parameters() if name.startswith("actor"))}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12)
    assert all((value >= 0).all() for value in found.values())
    assert float(found["actor.0.weight"].sum()) > 0


def test_the_fisher_information_needs_states_and_no_memory():
    policy = exact_policy()
    with pytest.raises(ConfigError, match="at least one state"):
        fisher_diagonal(policy, states(0))
    policy.recurrent = True
    with pytest.raises(ConfigError, match="without a memory"):
        fisher_diagonal(policy, states(1))


def test_importance_decays_and_the_anchor_moves():
    policy = exact_policy()
    first = consolidate(policy, [states(4, 1)], decay=0.25)
    policy.actor[0].weight.data.add_(0.5)
    second = consolidate(policy, [states(4, 2), states(3, 3)], first, decay=0.25)
    for name, value in importance_parameters(policy).items():
        by_hand = 0.25 * first.fisher[name]
        by_hand = by_hand + fisher_diagonal(policy, states(4, 2))[name] + fisher_diagonal(policy, states(3, 3))[name]
        torch.testing.assert_close(second.fisher[name], by_hand)
        assert torch.equal(second.anchor[name], value.detach())
        assert second.anchor[name].data_ptr() != value.data_ptr()
    assert not torch.equal(first.anchor["actor.0.weight"], second.anchor["actor.0.weight"])
    with pytest.raises(ConfigError, match=r"merge\.ewc_decay is 1\.5"):
        consolidate(policy, [states(1)], decay=1.5)


def penalized(seed=0):
    policy = exact_policy()
    g = torch.Generator().manual_seed(seed)
    parts = importance_parameters(policy)
    anchor = {n: v.detach() + torch.randn(v.shape, generator=g, dtype=torch.float64) for n, v in parts.items()}
    fisher = {n: torch.rand(v.shape, generator=g, dtype=torch.float64) for n, v in parts.items()}
    return policy, Importance(anchor, fisher)


def test_the_quadratic_penalty_and_its_gradient_by_finite_differences():
    policy, importance = penalized()
    penalty = EwcPenalty(importance, weight=3.0, decay=0.5)
    parts = importance_parameters(policy)
    by_hand = sum(
        3.0 / 2 * 0.5 * float(f) * (float(t) - float(a)) ** 2
        for n in parts
        for f, t, a in zip(
            importance.fisher[n].flatten(), parts[n].detach().flatten(), importance.anchor[n].flatten(), strict=True
        )
    )
    value = penalty(policy, None, None)
    assert float(value.detach()) == pytest.approx(by_hand, rel=1e-12)
    value.backward()
    for name, parameter in parts.items():
        for place in (0, parameter.numel() - 1):
            flat, step, ends = parameter.data.view(-1), 1e-6, []
            for sign in (1, -1):
                flat[place] += sign * step
                ends.append(float(penalty(policy, None, None).detach()))
                flat[place] -= sign * step
            assert float(parameter.grad.view(-1)[place]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5), name


def test_importance_is_stored_and_damaged_files_are_refused(tmp_path):
    policy, importance = penalized()
    importance.save(tmp_path / "a")
    found = Importance.load(tmp_path / "a")
    for mine, theirs in ((found.anchor, importance.anchor), (found.fisher, importance.fisher)):
        assert set(mine) == set(theirs)
        assert all(torch.equal(mine[name], value) for name, value in theirs.items())
    check_matches(found, policy)
    with pytest.raises(ContractError, match=r"another network: actor\.0\.bias"):
        check_matches(Importance({}, {**found.fisher, "actor.0.bias": torch.zeros(5)}), policy)
    one, nan = torch.ones(1), torch.tensor([math.nan])
    bad = {
        "anchors and fishers": [{"anchor.x": one}, {"anchor.x": one, "fisher.x": -one}],
        "not a finite": [{"anchor.x": nan, "fisher.x": one}, {"other": one}],
    }
    for message, contents in bad.items():
        for content in contents:
            (tmp_path / "b").write_bytes(save(content))
            with pytest.raises(DatasetError, match=message):
                Importance.load(tmp_path / "b")
    (tmp_path / "b").write_bytes(b"12345678")
    for path in (tmp_path / "b", tmp_path / "missing"):
        with pytest.raises(DatasetError, match="cannot read the importance"):
            Importance.load(path)


def pool_of(*parts):
    """A pool of states (n, 3) and labels (n, 2), per skill."""
    pool = StatePool(len(parts))
    for i, (observations, labels) in enumerate(parts):
        n = len(labels)
        no, zero = torch.zeros(n, 1, dtype=torch.bool), torch.zeros(n)
        pool.add(
            i,
            LabeledRollout(
                observations, labels, zero[:, None], no, no, no, torch.zeros(0, dtype=torch.long), torch.zeros(0, 3),
                zero, zero,
            ),
        )  # fmt: skip
    return pool


def test_stored_states_are_compared_as_the_skills_that_they_are():
    pool, seen = pool_of((torch.zeros(1, 3), torch.full((1, 2), 0.25)), (torch.ones(1, 3), torch.zeros(1, 2))), []

    def compare(policy, batch):
        seen.append((policy, batch))
        return batch.labels.sum()

    value = ReplayPenalty(pool, [3, 1], weight=2.0, offset=4)("learner", compare, torch.Generator())
    assert float(value) == 2.0 * 3 * 2 * 0.25
    ((policy, batch),) = seen
    assert policy == "learner"
    assert batch.skill.tolist() == [4, 4, 4, 5]
    assert batch.observations[:, 0].tolist() == [0.0, 0.0, 0.0, 1.0]


class OneBatch:
    def __init__(self, batch):
        self.batch = batch

    def sample(self, counts, generator):
        return self.batch


def test_penalties_are_added_to_the_loss_of_every_gradient_step():
    """Adam by hand on the loss plus twice the sum of squares of the weights, and the loss of other states."""
    batch = Batch(states(4).float(), torch.full((4, 2), 0.1), torch.zeros(4, dtype=torch.long))
    other = Batch(states(4, 9).float(), torch.full((4, 2), -0.2), torch.zeros(4, dtype=torch.long))
    config = replace(TINY, rounds=1, learning_rate=1e-2, averaging=0.0, loss="mse")
    student, own = small_policy(1), small_policy(1)

    def squares(learner, compare, generator):
        return 2.0 * sum(p.square().sum() for p in learner.acting_parameters())

    def elsewhere(learner, compare, generator):
        return compare(learner, other)

    fitting = Fitting(student, torch.zeros(1, 2), config, penalties=(squares, elsewhere))
    loss = fitting.fit(OneBatch(batch), (4,), 0, torch.Generator(), updates=3)
    parameters, losses = [*own.acting_parameters(), own.log_std], []
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    for _ in range(3):
        value = sum((own(b.observations) - b.labels).square().mean() for b in (batch, other))
        value = value + 2.0 * sum(p.square().sum() for p in own.acting_parameters())
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(float(value.detach()))
    assert loss == pytest.approx(sum(losses) / 3, rel=1e-5)
    for mine, theirs in zip(student.acting_parameters(), own.acting_parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def skill_states(shift, seed):
    """States of a skill around a place, and the actions of its expert there."""
    g = torch.Generator().manual_seed(seed)
    found = torch.randn(400, 3, generator=g) * 0.5
    found[:, 0] += shift
    expert = small_policy(seed)
    torch.nn.init.normal_(expert.actor[-1].weight, std=0.4, generator=g)
    with torch.no_grad():
        return found, expert(found).clamp(-0.9, 0.9)


def test_a_second_skill_is_learned_and_the_first_forgotten_less_with_protection():
    """States of two skills are apart; the student is fitted to the first, then to the second."""
    config = replace(TINY, loss="forward_kl", updates=150, learning_rate=1e-2, averaging=0.9, rounds=2)
    old, new, spread = skill_states(-1.0, 5), skill_states(1.0, 6), torch.full((2, 2), -1.5)
    first = Policy({"a": 3}, 2, Architecture((32,), (4,)), 0)
    first.log_std.data.fill_(-1.5)
    Fitting(first, spread[:1], config).fit(pool_of(old), [64], 0, torch.Generator().manual_seed(1))

    def error(policy, skill):
        with torch.no_grad():
            return float((policy(skill[0]) - skill[1]).square().mean())

    replayed = ReplayPenalty(pool_of(tuple(part[:40] for part in old)), [64], 1.0, offset=1)
    held = EwcPenalty(consolidate(first, [old[0]], decay=1.0), 10.0, 1.0)
    forgotten, learned = {}, {}
    for name, penalties in {"none": (), "replay": (replayed,), "ewc": (held,)}.items():
        student = Policy({"a": 3}, 2, Architecture((32,), (4,)), 0)
        student.load_state_dict(first.state_dict())
        fitting = Fitting(student, spread, config, penalties=penalties)
        fitting.fit(pool_of(new), [64], 0, torch.Generator().manual_seed(2))
        forgotten[name], learned[name] = error(student, old), error(student, new)
    start = error(first, old)
    assert 4 * start < forgotten["none"], (start, forgotten, learned)
    assert forgotten["replay"] < 0.3 * forgotten["none"]
    assert forgotten["ewc"] < 0.5 * forgotten["none"]
    for name in learned:
        assert learned[name] < 0.5 * error(first, new), name
