"""K-FAC: the step of a linear regression, length and scale of steps, resume, refusals, and fewer steps than Adam."""

import copy
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from teacher_samples import TINY, make_teacher
from torch import nn

from policykd.agents.architecture import Architecture, Encoder, Mixture
from policykd.agents.policy import Policy
from policykd.errors import ConfigError
from policykd.merge import MergeConfig, merge_experts
from policykd.merge.data.pool import Batch
from policykd.merge.fitting import Fitting
from policykd.merge.kfac import KFAC, is_dense
from policykd.merge.penalties import ReplayPenalty


def network(*sizes):
    torch.manual_seed(0)
    layers = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def samples(count, features, outputs):
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(count, features, generator=generator), torch.randn(count, outputs, generator=generator)
    return x * torch.logspace(-1, 1, features), y, generator


def differentiate(net, x, y, weight=0.5):
    net.zero_grad()
    (weight * (net(x) - y).square().sum(dim=1).mean()).backward()


def fitted(optimizer, net, x, y, steps):
    """Return the loss after gradient steps on random minibatches, whose size falls to a tenth."""
    generator = torch.Generator().manual_seed(2)
    first = optimizer.param_groups[0]["lr"]
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = first * (1.0 - 0.9 * step / steps)
        rows = torch.randint(len(x), (256,), generator=generator)
        if isinstance(optimizer, KFAC) and optimizer.wants_measurement:
            optimizer.measure(lambda rows=rows: net(x[rows]), generator)
        differentiate(net, x[rows], y[rows])
        optimizer.step()
    with torch.no_grad():
        return float((net(x) - y).square().mean())


def test_a_linear_network_makes_a_newton_step_of_the_given_length():
    x, y, generator = samples(5000, 4, 2)
    net = network(4, 2)
    before, optimizer = copy.deepcopy(net), KFAC(net, lr=0.05, damping=1e-9, momentum=0.0)
    for _ in range(60):
        optimizer.measure(lambda: net(x), generator)
    differentiate(net, x, y)
    optimizer.step()
    rows = torch.cat([x, torch.ones(len(x), 1)], dim=1)
    best = torch.linalg.lstsq(rows, y).solution
    old, new = (torch.cat([n[0].weight, n[0].bias[:, None]], dim=1).detach().T for n in (before, net))
    newton, made = best - old, new - old
    assert float((newton * made).sum() / (newton.norm() * made.norm())) > 0.999
    with torch.no_grad():
        assert float((net(x) - before(x)).square().mean().sqrt()) == pytest.approx(0.05, rel=0.02)


def test_the_first_step_of_a_deep_network_changes_outputs_by_about_its_length():
    x, y, generator = samples(2000, 4, 3)
    net = network(4, 32, 32, 3)
    before, optimizer = copy.deepcopy(net), KFAC(net, lr=0.01)
    for _ in range(20):
        optimizer.measure(lambda: net(x), generator)
    differentiate(net, x, y)
    optimizer.step()
    with torch.no_grad():
        assert 0.005 < float((net(x) - before(x)).square().mean().sqrt()) < 0.02


def test_steps_do_not_depend_on_the_scale_of_the_loss():
    x, y, _ = samples(200, 4, 2)
    nets = []
    for weight in (0.5, 500.0):
        net, generator = network(4, 8, 2), torch.Generator().manual_seed(3)
        optimizer = KFAC(net, lr=0.01)
        for _ in range(3):
            if optimizer.wants_measurement:
                optimizer.measure(lambda net=net: net(x), generator)
            differentiate(net, x, y, weight)
            optimizer.step()
        nets.append(net)
    for one, other in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_half_of_adams_steps_go_further():
    x, _, generator = samples(4000, 12, 1)
    x = x @ torch.randn(12, 12, generator=generator)  # features that go together, as readings of one robot do
    x = (x - x.mean(dim=0)) / x.std(dim=0)
    y = torch.sin(x[:, :2])
    adam = []
    for rate in (1e-3, 3e-3, 1e-2):
        net = network(12, 64, 64, 2)
        adam.append(fitted(torch.optim.Adam(net.parameters(), lr=rate), net, x, y, 200))
    net = network(12, 64, 64, 2)
    assert fitted(KFAC(net, lr=0.05), net, x, y, 100) < 0.5 * min(adam)


def test_a_loaded_state_goes_on_to_equal_weights():
    x, y, _ = samples(300, 4, 2)
    net = network(4, 16, 2)
    optimizer = KFAC(net, lr=0.01)
    fitted(optimizer, net, x, y, 23)  # between two measurements and two inversions
    other = copy.deepcopy(net)
    resumed = KFAC(other, lr=0.5, momentum=0.0, damping=1.0)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert fitted(optimizer, net, x, y, 30) == fitted(resumed, other, x, y, 30)
    assert all(torch.equal(*pair) for pair in zip(net.parameters(), other.parameters(), strict=True))


def test_what_it_is_not_for_is_refused():
    assert not is_dense(nn.Sequential(nn.Linear(3, 3), nn.Dropout()))
    with pytest.raises(ValueError, match="Linear, ELU, ReLU, SiLU, Tanh"):
        KFAC(nn.Sequential(nn.Conv1d(1, 1, 1)), lr=0.01)
    with pytest.raises(RuntimeError, match="measure"):
        KFAC(network(3, 2), lr=0.01).step()
    with pytest.raises(ConfigError, match=r"merge\.loss is nll, which merge\.optimizer=kfac is not for; set"):
        MergeConfig(optimizer="kfac", loss="nll")
    with pytest.raises(ConfigError, match=r"merge\.protection is ewc, which"):
        MergeConfig(optimizer="kfac", protection="ewc", start="previous")
    with pytest.raises(ConfigError, match="a mixture"):
        MergeConfig(optimizer="kfac", architecture=Architecture(mixture=Mixture()))
    with pytest.raises(ConfigError, match=r"merge.step_length.* 1"):
        MergeConfig(step_length=2.0)


def test_a_copy_with_an_encoder_is_refused():
    shape = Architecture(hidden=(8,), encoders=(Encoder(group="scan", channels=(2,), kernel=(3,), stride=(1,)),))
    student = Policy({"joints": 3, "scan": 9}, 2, shape, 0)
    with pytest.raises(ConfigError, match=r"merge\.optimizer=adam"):
        Fitting(student, torch.zeros(1, 2), replace(TINY, optimizer="kfac", start="newest"))


def test_a_copy_that_it_is_not_for_is_refused_before_the_folder_holds_a_run(tmp_path):
    teacher = make_teacher("biped/flat", 1)
    shape = Architecture(hidden=(8,), mixture=Mixture())
    policy = Policy(teacher.skill.group_sizes, teacher.skill.robot.num_actions, shape, 0)
    config = replace(TINY, optimizer="kfac", start="newest")
    with pytest.raises(ConfigError, match="or a mixture: set merge"):
        merge_experts([replace(teacher, policy=policy)], tmp_path / "out", config)
    assert not (tmp_path / "out" / "config.json").exists()


class OneBatch:
    """Stands in for a dataset: every minibatch is the same one."""

    def __init__(self, batch):
        self.batch = batch

    def sample(self, counts, generator):
        return self.batch


def test_fitting_makes_its_steps_and_names_the_length_where_labels_are_not_finite():
    x, _, _ = samples(64, 3, 2)
    student = Policy({"a": 3}, 2, Architecture(hidden=(8,), critic_hidden=(4,)), 0)
    config = replace(TINY, optimizer="kfac", step_length=0.02, rounds=4, updates=40, averaging=0.0, loss="mse")
    fitting = Fitting(student, torch.zeros(1, 2), config)
    batch = Batch(x, 0.5 * torch.sin(x[:, :2]), torch.zeros(64, dtype=torch.long))
    losses = [fitting.fit(OneBatch(batch), (64,), round_, torch.Generator().manual_seed(0)) for round_ in range(4)]
    assert losses[3] < 0.5 * losses[0]
    assert fitting._optimizer.param_groups[0]["lr"] == pytest.approx(0.002)
    batch.labels[0] = float("nan")
    with pytest.raises((ConfigError, ValueError), match="finite"):
        fitting.fit(OneBatch(batch), (64,), 3, torch.Generator())


def test_replayed_skills_are_measured_as_the_loss_weighs_them():
    """A minibatch has 60 states of the new skill, and 12 of each of four old ones, all of which weigh alike."""

    class Numbered:
        def __init__(self, first):
            self.first = first

        def sample(self, counts, generator):
            skills = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
            observations = (self.first + skills.float()).unsqueeze(1).repeat(1, 3)
            return Batch(observations, torch.zeros(len(skills), 2), skills)

    student = Policy({"a": 3}, 2, Architecture(hidden=(8,), critic_hidden=(4,)), 0)
    replay = ReplayPenalty(Numbered(10.0), [12] * 4, 4.0, 1)
    config = replace(TINY, optimizer="kfac", updates=1, loss="mse")
    fitting = Fitting(student, torch.zeros(5, 2), config, penalties=[replay])
    rows = fitting._weighed(Numbered(0.0), [60], torch.Generator())[:, 0]
    assert rows.tolist() == [0.0] * 6 + [10.0] * 6 + [11.0] * 6 + [12.0] * 6 + [13.0] * 6
