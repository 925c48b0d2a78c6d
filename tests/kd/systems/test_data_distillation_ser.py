"""Distilled data: exact resume after a kill, replay to the bit, baselines, and the experiment's arms."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from torch.func import functional_call

from children import join_children, start_children
from policykd.errors import ConfigError
from policykd.kd.experiments.system import Fit
from policykd.kd.networks import MLP
from policykd.kd.systems.data_distillation_ser import EXPERIMENT, DataDistillationRecipe, DistilledCell, uar
from policykd.kd.tasks.base import Split
from policykd.kd.training.distilled_data import DistilledConfig, DistilledData, distill_data

SMALL = DistilledConfig(blocks=2, passes=2, rounds=30, batch_size=16, rate=0.3, halve_every=10)
TINY = DataDistillationRecipe(
    teacher=Fit((6,), steps=20), student=Fit((6,), epochs=1), distilled=replace(SMALL, rounds=3), grid=(0.1, 1.0)
)


def problem():
    torch.manual_seed(0)
    network = MLP((5,), (6,), classes=3)
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(60) % 3
    x = torch.randn(60, 5, generator=generator) + 2.0 * torch.nn.functional.one_hot(y, 5)
    return network, {name: value.detach() for name, value in network.named_parameters()}, Split(x, y)


def distilled(**options):
    network, start, data = problem()
    return distill_data(network, lambda _: start, data, 3, SMALL, seed=0, **options)


def distill_and_die(folder):
    """Distil in the process that a test starts, and kill it in round 18 of 30 without any notice."""

    def die(done):
        if done == 17:
            os.kill(os.getpid(), signal.SIGKILL)

    distilled(folder=folder, checkpoint_rounds=5, after_round=die)


def test_a_killed_distillation_that_is_resumed_gives_the_data_of_the_uninterrupted_one(tmp_path):
    assert join_children(start_children(distill_and_die, (tmp_path,))) == [-signal.SIGKILL]
    seen = []
    resumed = distilled(folder=tmp_path, checkpoint_rounds=5, resume=True, after_round=seen.append)
    assert seen == list(range(15, 30))
    whole = distilled()
    for one, other in zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_few_steps_on_distilled_data_beat_as_many_on_first_draws_and_replay_to_the_bit():
    network, start, data = problem()
    made = distilled()
    first = DistilledData((5,), 3, SMALL, torch.Generator().manual_seed(0))
    losses = []
    for one in (first, made):
        trained = one.train_network(network, start)
        losses.append(
            float(torch.nn.functional.cross_entropy(functional_call(network, trained, (data.x,)), data.y).detach())
        )
    assert losses[1] < 0.9 * losses[0]
    shipped = DistilledData((5,), 3, SMALL, torch.Generator().manual_seed(9))
    shipped.load_state_dict(made.state_dict())
    again = shipped.train_network(network, start)
    assert all(torch.equal(again[name], trained[name]) for name in trained)
    assert torch.equal(network.state_dict()["fc.weight"], start["fc.weight"])


def test_rates_begin_where_the_configuration_says_and_stay_above_zero():
    data = DistilledData((5,), 3, SMALL, torch.Generator().manual_seed(0))
    torch.testing.assert_close(data.rates.detach(), torch.full((4,), 0.3))
    with torch.no_grad():
        data.raw_rates.fill_(-20.0)
    assert float(data.rates.detach().min()) > 0
    assert data.labels.tolist() == [0, 1, 2]
    twice = DistilledData((5,), 3, replace(SMALL, per_class=2), torch.Generator().manual_seed(0))
    assert twice.x.shape == (2, 6, 5)
    assert twice.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_unweighted_average_recall():
    labels, said = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1])
    logits = torch.nn.functional.one_hot(said, 2).float()
    assert uar(logits, labels) == pytest.approx(0.8333, abs=1e-4)
    assert float((said == labels).double().mean()) == 0.75


def test_starts_depend_on_their_key_alone_and_centers_on_the_training_data():
    cell = DistilledCell(0, TINY)
    one, same, other = cell.start("fixed"), cell.start("fixed"), cell.start("other", 1)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["fc.weight"], other["fc.weight"])
    means = cell.centers(1)
    torch.testing.assert_close(means.x[4], cell.train.x[cell.train.y == 4].mean(0), rtol=1e-4, atol=1e-5)
    assert cell.centers(2).x.shape == (20, 64)


def test_the_rate_of_a_baseline_is_the_best_of_the_grid_on_training_data():
    cell = DistilledCell(0, replace(TINY, grid=(1e-9, 1.0)))
    untrained = cell.score(cell.start("fixed"))
    better = cell.on_samples(cell.centers(1))
    assert better > untrained + 0.1
    assert DistilledCell(0, replace(TINY, grid=(1e-9,))).on_samples(cell.centers(1)) == untrained


def test_a_small_cell_has_every_arm_and_repeats():
    cell = EXPERIMENT.run(0, TINY)
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(0, replace(TINY)) == cell


@pytest.mark.parametrize("change", [{"blocks": 0}, {"rate": 0.0}, {"halve_every": 0}])
def test_sizes_out_of_range_are_refused(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        DistilledConfig(**change)
