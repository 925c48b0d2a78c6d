"""PLAID in one file does what the library does, number by number, and learns."""

import inspect
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import plaid_in_one_file as one_file
from policykd.agents.architecture import Architecture
from policykd.agents.injection import inject
from policykd.agents.policy import Policy
from policykd.envs.foreign.skill import any_bounds
from policykd.merge import MergeConfig
from policykd.merge.data.pool import Batch
from policykd.merge.fitting import Fitting
from policykd.merge.losses import LOSSES
from policykd.schedules import parse

FILE = Path(one_file.__file__)


def same_actor(policy, seed=0):
    """Return the library's policy with the weights of the file's."""
    groups = {"proprio": 2} if policy.inputs == 2 else {"proprio": 2, "scan": 2}
    found = Policy(groups, 1, Architecture(hidden=(32,), critic_hidden=(32,)), seed)
    for network in ("actor", "critic"):
        getattr(found, network).load_state_dict(getattr(policy, network).state_dict())
    return found.eval()


def states(count, seed=1):
    return torch.randn(count, one_file.SIGHTED, generator=torch.Generator().manual_seed(seed))


def new(inputs=one_file.BLIND, seed=0):
    torch.manual_seed(seed)
    return one_file.Policy(inputs)


def test_it_is_one_file_without_policykd():
    text = FILE.read_text()
    assert len(text.splitlines()) <= 300
    assert "import policykd" not in text
    assert "from policykd" not in text


def test_injection_changes_no_action_as_in_the_library():
    blind, x = new(), states(200)
    sighted = one_file.inject(blind, one_file.SIGHTED)
    with torch.no_grad():
        torch.testing.assert_close(sighted(x), blind(x), rtol=0, atol=1e-6)
        torch.testing.assert_close(sighted.value(x), blind.value(x), rtol=0, atol=1e-6)
        library = inject(same_actor(blind), ["scan"], robot=any_bounds(1), sizes={"proprio": 2, "scan": 2})
        torch.testing.assert_close(library(x), sighted(x), rtol=0, atol=1e-6)
    assert torch.equal(library.actor[0].weight, sighted.actor[0].weight)
    assert not sighted.actor[0].weight[:, one_file.BLIND :].any()


def test_the_teachers_share_is_the_librarys_default():
    config = MergeConfig()
    schedule = parse(config.beta)
    assert config.mixing == "episode"
    for round_ in range(6):
        assert one_file.expert_share(round_) == schedule(round_, config.rounds)


def test_the_loss_is_the_librarys():
    draw = torch.Generator().manual_seed(2)
    mean, label = (torch.rand(50, 1, generator=draw) - 0.5 for _ in range(2))
    spread = torch.zeros(50, 1)
    expected = LOSSES["mse"].function((mean, spread), (label, spread))
    torch.testing.assert_close(one_file.distillation_loss(mean, label), expected)
    beyond = torch.tensor([[1.5], [-3.0], [0.5], [1.5]])
    at_bound = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    assert float(one_file.distillation_loss(beyond, at_bound)) == pytest.approx((0.25 + 2.5**2) / 4)


def test_returns_are_the_librarys():
    draw = torch.Generator().manual_seed(3)
    rewards, values = torch.rand(7, 3, generator=draw), torch.rand(8, 3, generator=draw)
    expected = torch.zeros(7, 3)
    for t in range(7):  # the definition: weights (1 - lam) lam^k over returns of k + 1 steps
        steps = [sum(0.95**i * rewards[t + i] for i in range(k)) + 0.95**k * values[t + k] for k in range(1, 8 - t)]
        expected[t] = sum(0.05 * 0.95**k * found for k, found in enumerate(steps[:-1])) + 0.95 ** (6 - t) * steps[-1]
    torch.testing.assert_close(one_file.returns(rewards, values), expected)


class OneBatch:
    """A pool of which every minibatch is the whole."""

    def __init__(self, x, labels):
        self.batch = Batch(x, labels, torch.zeros(len(x), dtype=torch.long))

    def sample(self, counts, generator):
        return self.batch


def test_fitting_gives_the_librarys_weights():
    """Two rounds of five steps from equal weights: Adam, clipped gradients and the average of the weights agree."""
    mine, x = new(one_file.SIGHTED), states(40)
    labels = (3.0 * x[:, :1] - x[:, 2:3]).clamp(-1, 1)
    library = same_actor(mine)
    config = MergeConfig(rounds=1, updates=5, learning_rate=2e-3, architecture=library.architecture)
    Fitting(library, torch.zeros(1, 1), config).fit(OneBatch(x, labels), (40,), 0, torch.Generator())
    before = [value.clone() for value in mine.actor.parameters()]
    one_file.fit(mine, [(x, labels)] * 5, 2e-3, averaging=config.averaging)
    for found, expected, old in zip(mine.actor.parameters(), library.actor.parameters(), before, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
        assert (found - old).abs().max() > 1e-4


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_learners_own_states_are_labeled_by_the_teacher(share):
    student, teacher, skill = new(one_file.SIGHTED, 1), new(one_file.SIGHTED, 2), one_file.SKILLS[2]
    generator = torch.Generator().manual_seed(4)
    x, labels = one_file.collect(student, teacher, skill, share, 0.0, generator, n=3)
    with torch.no_grad():
        torch.testing.assert_close(labels, teacher(x).clamp(-1, 1))
    acting = (teacher if share else student)(x).detach().clamp(-1, 1)
    v, force = x.reshape(-1, 3, 4)[..., 0], (acting[:, 0] - x[:, 2]).reshape(-1, 3)
    torch.testing.assert_close(v[1:], v[:-1] + 0.1 * (4.0 * force[:-1] - v[:-1]), rtol=1e-4, atol=1e-5)


def test_the_defaults_it_repeats_are_the_librarys():
    assert MergeConfig().averaging == inspect.signature(one_file.fit).parameters["averaging"].default
    assert MergeConfig().aggregation == "all"


class Known(one_file.Policy):
    """Holds any speed on any hills: what a perfect expert does."""

    def forward(self, observations):
        v, wanted, slope = observations[:, 0], observations[:, 1], observations[:, 2]
        return (2.0 * (wanted - v) + wanted / 4.0 + slope)[:, None]


def test_an_expert_learns():
    before = one_file.reward(new(), one_file.SKILLS[0])
    after = one_file.reward(one_file.train_expert(new(), one_file.SKILLS[0], 5, seed=0), one_file.SKILLS[0])
    assert after > before + 0.15


def test_a_student_of_two_skills_does_both():
    teachers = [(one_file.SKILLS[i], Known(one_file.SIGHTED)) for i in (1, 2)]
    student = one_file.distill(new(one_file.SIGHTED), teachers, rounds=2, updates=150, seed=0)
    for skill, teacher in teachers:
        best = one_file.reward(teacher, skill)
        assert best > 0.9
        assert one_file.reward(student, skill) > 0.9 * best > one_file.reward(new(one_file.SIGHTED), skill)


def test_stages_follow_one_another(monkeypatch, capsys):
    monkeypatch.setattr(one_file, "STEPS", 8)
    table = one_file.plaid(iterations=1, rounds=1, updates=5)
    assert table.shape == (3, 3)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "after",
        "forward",
        "backward",
        "hills",
    ]
    assert np.array_equal(table, one_file.plaid(iterations=1, rounds=1, updates=5)), "the seed decides everything"
