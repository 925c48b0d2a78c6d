"""Softened targets and the transformer against worked values and invariants, and the arms of the experiment."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from policykd.errors import ConfigError
from policykd.kd import functional as kf
from policykd.kd.domains import domain_mmd, domain_ramp, median_widths
from policykd.kd.experiments.system import Fit
from policykd.kd.losses.tfkd import virtual_teacher
from policykd.kd.networks.sensor_transformer import SensorTransformer
from policykd.kd.systems.tasked import EXPERIMENT, TaskedCell, TaskedRecipe, tasked_loss
from policykd.kd.training.batches import Batch
from policykd.kd.training.prediction_memory import PredictionMemory, softened_targets

TINY = TaskedRecipe(student=Fit((7, 5), epochs=2, batch_size=48), windows=24, test_windows=30)


def test_worked_targets():
    label, previous = torch.tensor([1]), torch.tensor([[0.2, 0.5, 0.3]])
    for epoch, expected in {0: (0.0016, 0.9960, 0.0024), 49: (0.08, 0.80, 0.12), 99: (0.16, 0.60, 0.24)}.items():
        found = softened_targets(label, previous, epoch=epoch, epochs=100)
        assert found[0].tolist() == pytest.approx(expected, abs=1e-6)
        assert float(found.sum()) == pytest.approx(1.0)
    logits = torch.tensor([[0.0, 1.0, 0.0]])
    soft = float(F.cross_entropy(logits, softened_targets(label, previous, epoch=49, epochs=100)))
    hard, own = float(F.cross_entropy(logits, label)), float(F.cross_entropy(logits, previous))
    assert soft == pytest.approx(0.6 * hard + 0.4 * own)
    assert soft == pytest.approx(0.751445, abs=1e-6)
    plain = softened_targets(label, previous, epoch=7, epochs=9, share=0.0)
    assert plain.tolist() == [[0.0, 1.0, 0.0]]


def test_a_memory_gives_the_predictions_of_the_epoch_before():
    memory, rows, labels = PredictionMemory(4, 3), torch.tensor([2, 0]), torch.tensor([1, 2])
    first = memory.targets(rows, labels, epoch=0, epochs=2, share=1.0)
    assert first.tolist() == [[0, 1, 0], [0, 0, 1]]
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 5.0]], requires_grad=True)
    memory.store(rows, logits)
    again = memory.targets(rows, labels, epoch=1, epochs=2, share=1.0)
    torch.testing.assert_close(again, logits.softmax(1).detach())
    assert not again.requires_grad
    assert memory.targets(torch.tensor([1]), labels[:1], epoch=1, epochs=2).tolist() == [[0, 1, 0]]


def test_the_virtual_teacher_in_both_variants():
    label, options = torch.tensor([1]), {"certainty": 0.99, "temperature": 20.0}
    paper = virtual_teacher(label, 3, **options)
    assert paper[0].tolist() == pytest.approx([0.302786, 0.394429, 0.302786], abs=1e-6)
    code = virtual_teacher(label, 3, variant="code", **options)
    assert code[0].tolist() == pytest.approx([0.327817, 0.344366, 0.327817], abs=1e-6)


def transformer():
    torch.manual_seed(0)
    return SensorTransformer((6, 16), positions=3, width=8, heads=2, piece=4, classes=5).eval()


def test_positions_may_be_permuted_together_with_their_embeddings():
    network, x = transformer(), torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(1))
    logits, order = network(x), torch.tensor([2, 0, 1])
    moved = x.reshape(2, 3, 2, 16)[:, order].reshape(2, 6, 16)
    assert not torch.allclose(network(moved), logits, atol=1e-4)
    with torch.no_grad():
        network.place.copy_(network.place[order])
    torch.testing.assert_close(network(moved), logits, rtol=1e-4, atol=1e-5)


def test_ignored_positions_have_no_influence():
    network, x = transformer(), torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(1))
    ignore, other = torch.tensor([False, True, False]), x.clone()
    other[:, 2:4] += 10.0
    _, logits = network.features_and_logits(x, ignore)
    torch.testing.assert_close(network.features_and_logits(other, ignore)[1], logits)
    assert not torch.allclose(network(other), network(x), atol=1e-3)
    other[:, 4:] += 10.0
    assert not torch.allclose(network.features_and_logits(other, ignore)[1], logits, atol=1e-3)


@pytest.mark.parametrize("options", [{"positions": 4}, {"positions": 3, "piece": 5}])
def test_windows_that_cannot_be_cut_are_refused(options):
    with pytest.raises(ConfigError, match="must divide"):
        SensorTransformer((6, 16), **options)


def step(epoch=1, **options):
    cell = TaskedCell(0, TINY)
    student, rows = cell.network("student", TINY.student), torch.arange(0, 96, 2)
    batch = Batch(cell.train.x[rows], cell.train.y[rows], rows, (48,))
    loss = tasked_loss(cell, **options)
    features, logits = student.features_and_logits(batch.x)
    return loss(student, batch, epoch), cell, batch, features, logits


@pytest.mark.parametrize("with_new", [False, True])
def test_a_step_adds_its_terms_and_reads_no_label_of_the_new_person(with_new):
    value, cell, batch, features, logits = step(mmd=True, with_new=with_new)
    known = cell.train.groups[batch.index] != 0
    assert 0 < int(known.sum()) < 48
    seen = torch.ones_like(known) if with_new else known
    spread = domain_mmd(features[seen], cell.train.groups[batch.index][seen], least=4)
    expected = F.cross_entropy(logits[known], batch.targets[known]) + 3.0 * domain_ramp(0.5) * spread
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize(("windows", "compared"), [(4, (1, 2, 3)), (3, (1, 2))])
def test_only_persons_with_four_windows_of_a_batch_are_compared(windows, compared):
    cell = TaskedCell(0, TINY)
    student, groups = cell.network("student", TINY.student), cell.train.groups
    rows = torch.cat([torch.nonzero(groups == p).flatten()[:n] for p, n in ((1, 9), (2, 7), (3, windows))])
    batch = Batch(cell.train.x[rows], cell.train.y[rows], rows, (len(rows),))
    features, logits = student.features_and_logits(batch.x)
    kept = torch.isin(groups[rows], torch.tensor(compared))
    spread = domain_mmd(features[kept], groups[rows][kept], widths=median_widths(features), least=1)
    expected = F.cross_entropy(logits, batch.targets) + 3.0 * domain_ramp(0.5) * spread
    torch.testing.assert_close(tasked_loss(cell, mmd=True)(student, batch, 1), expected)


def test_an_adversary_learns_persons_and_the_student_the_opposite():
    adversary = torch.nn.Linear(5, 4)
    value, cell, batch, features, logits = step(adversary=adversary, with_new=True)
    persons, known = cell.train.groups[batch.index], cell.train.groups[batch.index] != 0
    hard = F.cross_entropy(logits[known], batch.targets[known])
    named = F.cross_entropy(adversary(features), persons)
    torch.testing.assert_close(value, hard + 0.3 * named)
    own = torch.autograd.grad(value, adversary.weight, retain_graph=True)[0]
    torch.testing.assert_close(own, 0.3 * torch.autograd.grad(named, adversary.weight, retain_graph=True)[0])


@pytest.mark.parametrize("mode", ["progressive", "tf_self", "tf_reg"])
def test_self_distillation_has_three_readings(mode):
    cell = TaskedCell(0, replace(TINY, self_distillation=mode, self_share=0.25))
    student, rows = cell.network("student", TINY.student), torch.arange(30, 40)
    batch, logits = Batch(cell.train.x[rows], cell.train.y[rows], rows, (10,)), None
    loss, logits = tasked_loss(cell, softened=True), student(batch.x)
    hard = F.cross_entropy(logits, batch.targets)
    value = loss(student, batch, 0)
    if mode == "progressive":
        torch.testing.assert_close(value, hard)  # nothing is known before the first epoch
        soft = softened_targets(batch.targets, logits.softmax(1).detach(), epoch=1, epochs=2, share=0.25)
        torch.testing.assert_close(loss(student, batch, 1), F.cross_entropy(logits, soft))
    elif mode == "tf_reg":
        torch.testing.assert_close(value, 0.75 * hard + 0.25 * kf.tfkd(logits, batch.targets))
    else:
        assert float(value.detach()) != pytest.approx(float(hard.detach()))


def test_without_weights_all_arms_are_cross_entropy():
    plain = replace(TINY, mmd_weight=0.0, adversary_weight=0.0, self_share=0.0)
    cell = EXPERIMENT.run(0, plain)
    EXPERIMENT.check_cell(cell)
    assert all(own == cell["ce"] for own in cell.values())
    longer = EXPERIMENT.run(0, replace(TINY, student=Fit((7, 5), epochs=8, batch_size=48)))
    assert longer["tasked"] != longer["ce"]


@pytest.mark.parametrize("change", [{"self_distillation": "none"}, {"directions": 17}, {"persons": 2}])
def test_configurations_out_of_range_are_refused(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        TaskedRecipe(**change)
