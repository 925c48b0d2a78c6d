"""What systems share: both loops give the same student, streams are keyed by purpose, metrics follow their formulas."""

import numpy as np
import pytest
import torch
from torch import nn

from policykd.errors import ConfigError
from policykd.kd import metrics
from policykd.kd.experiments.digits import digits_rows, redrawn_labels, some, some_per_class, with_label_noise
from policykd.kd.losses import CE, KD
from policykd.kd.networks import MLP
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.terms import Term
from policykd.kd.tasks.base import Split
from policykd.kd.training.config import OptimizerConfig, SchedulerConfig, TrainConfig
from policykd.kd.training.distiller import Distiller
from policykd.kd.training.loop import distil, minimize, seeded, train_classifier


def data(samples=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(samples) % 3
    return Split(torch.eye(3)[y] + 0.5 * torch.randn(samples, 3, generator=generator), y)


def network(*key, hidden=(6,)):
    return seeded(lambda: MLP((3,), hidden, classes=3, dropout=0.3), 0, *key)


def same(first, second):
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


CONFIG = TrainConfig(
    epochs=3,
    batch_size=16,
    seed=5,
    clip_norm=0.5,
    optimizer=OptimizerConfig(lr=0.1),
    scheduler=SchedulerConfig("multistep", milestones=(1.5,)),
)
TEACHER = train_classifier(network("teacher"), data(), CONFIG)


def test_the_bare_loop_and_the_distiller_give_the_same_student_to_the_bit():
    objective = Objective(kd=0.9 * Term(KD(temperature=2.0)), ce=0.1 * Term(CE()))
    long = network("s")
    Distiller(long, TEACHER, objective, CONFIG).fit(data())
    bare = distil(network("s"), TEACHER, data(), CONFIG, temperature=2.0, kd_weight=0.9, ce_weight=0.1)
    assert same(long, bare)
    assert not bare.training


def test_logits_looked_up_are_those_of_the_teacher_asked():
    with torch.no_grad():
        logits = TEACHER(data().x)
    weights = {"temperature": 2.0, "kd_weight": 1.0, "ce_weight": 0.0}
    looked_up = distil(network("s"), logits, data(), CONFIG, **weights)
    asked = distil(network("s"), TEACHER, data(), CONFIG, **weights)
    for a, b in zip(looked_up.parameters(), asked.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_runs_repeat_whatever_the_callers_random_state_and_leave_it_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = train_classifier(network("s"), data(), CONFIG)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(first, train_classifier(network("s"), data(), CONFIG))


def test_initial_weights_depend_on_seed_and_purpose_alone():
    torch.manual_seed(1)
    first = network("s")
    torch.manual_seed(2)
    assert same(first, network("s"))
    assert not same(first, network("t"))
    assert not same(first, seeded(lambda: MLP((3,), (6,), classes=3, dropout=0.3), 1, "s"))


def test_minimize_tells_the_epoch_follows_the_schedule_and_steps_all_networks():
    """One weight each, gradient 1 and no momentum: the path is the sum of learning rates, 0.1 0.1 0.01 0.01 ..."""
    weights, seen = [nn.Linear(1, 1, bias=False) for _ in range(2)], []
    for layer in weights:
        nn.init.zeros_(layer.weight)

    def loss(batch, epoch):
        seen.append((epoch, [layer.training for layer in weights]))
        return sum(layer.weight.sum() for layer in weights)

    plain = OptimizerConfig(lr=0.1, momentum=0.0, weight_decay=0.0)
    schedule = SchedulerConfig("multistep", milestones=(1.0,))
    config = TrainConfig(epochs=3, batch_size=20, optimizer=plain, scheduler=schedule)
    minimize(loss, weights, data(40), config)
    assert [epoch for epoch, _ in seen] == [0, 0, 1, 1, 2, 2]
    assert all(modes == [True, True] for _, modes in seen)
    for layer in weights:
        assert float(layer.weight.detach()) == pytest.approx(-(2 * 0.1 + 4 * 0.01))
        assert not layer.training


def test_divergence_is_said_at_once():
    layer = nn.Linear(3, 3)
    with pytest.raises(FloatingPointError, match="epoch 1"):
        minimize(lambda batch, epoch: layer(batch.x).sum() * float("nan"), layer, data(), TrainConfig(epochs=2))


def test_digits_are_split_by_class_without_overlap_and_anew_for_every_seed():
    parts = digits_rows(0, (0.4, 0.1, 0.5))
    assert sum(map(len, parts)) == 1797
    assert parts[0].x.shape[1:] == (64,)
    assert (float(parts[0].x.min()), float(parts[0].x.max())) == (0.0, 1.0)
    rows = [tuple(row) for part in parts for row in part.x.tolist()]
    assert len(set(rows)) == 1797
    for share, part in zip((0.4, 0.1, 0.5), parts, strict=True):
        np.testing.assert_allclose(part.y.bincount().numpy() / share, 180, atol=10)
    assert not torch.equal(parts[0].x, digits_rows(1, (0.4, 0.1, 0.5))[0].x)
    assert torch.equal(parts[0].x, digits_rows(0, (0.4, 0.1, 0.5))[0].x)


def test_subsets():
    [train, _] = digits_rows(0, (0.5, 0.5))
    assert some_per_class(train, 4, 0).y.bincount().tolist() == [4] * 10
    assert len(some(train, 150, 0)) == 150
    assert not torch.equal(some(train, 150, 0).y, some(train, 150, 1).y)
    for call in (lambda: some_per_class(train, 1000, 0), lambda: some(train, 0, 0)):
        with pytest.raises(ValueError, match="must be in"):
            call()


def test_noise_gives_so_many_labels_another_class():
    [train, _] = digits_rows(0, (0.5, 0.5))
    noisy = with_label_noise(train, 0.1, 0)
    wrong = noisy.y != train.y
    assert int(wrong.sum()) == round(0.1 * len(train))
    assert torch.equal(noisy.x, train.x)
    assert set(noisy.y.tolist()) <= set(range(10))
    assert torch.equal(with_label_noise(train, 0.0, 0).y, train.y)
    assert bool((with_label_noise(train, 1.0, 0).y != train.y).all())
    with pytest.raises(ConfigError, match="share"):
        with_label_noise(train, 1.1, 0)


def test_redrawn_labels():
    labels = torch.arange(2000) % 10
    noisy = redrawn_labels(labels, 0.4, classes=10, seed=0, purpose="a")
    assert (noisy != labels).float().mean().item() == pytest.approx(0.36, abs=0.04)  # a tenth stays right by chance
    assert torch.equal(noisy, redrawn_labels(labels, 0.4, classes=10, seed=0, purpose="a"))
    assert not torch.equal(noisy, redrawn_labels(labels, 0.4, classes=10, seed=0, purpose="b"))
    assert torch.equal(labels, redrawn_labels(labels, 0.0, classes=10, seed=0, purpose="a"))
    with pytest.raises(ConfigError, match="share is 2"):
        redrawn_labels(labels, 2, classes=10, seed=0, purpose="a")


LOGITS = torch.tensor([[2.0, 0, 0], [1, 0.5, 0], [0, 0, 3], [-1, 4, 0]])
LABELS = torch.tensor([0, 1, 2, 1])


def probabilities(temperature=1.0):
    z = LOGITS.double().numpy() / temperature
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_metrics_follow_their_formulas():
    p, y = probabilities(), LABELS.numpy()
    assert metrics.accuracy(LOGITS, LABELS) == 0.75
    assert metrics.recall(LOGITS, LABELS, 1) == 0.5
    assert metrics.nll(LOGITS, LABELS) == pytest.approx(-np.log(p[np.arange(4), y]).mean(), rel=1e-12)
    assert metrics.brier(LOGITS, LABELS) == pytest.approx(((p - np.eye(3)[y]) ** 2).sum(1).mean(), rel=1e-12)
    for temperature in (1.0, 4.0):
        q = probabilities(temperature)
        expected = -(q * np.log(q)).sum(1).mean()
        assert metrics.entropy(LOGITS, temperature=temperature) == pytest.approx(expected, rel=1e-12)
        reverse = q[::-1]
        expected = (q * np.log(q / reverse)).sum(1).mean()  # teacher first
        got = metrics.kl(LOGITS.flip(0), LOGITS, temperature=temperature)
        assert got == pytest.approx(expected, rel=1e-12)
    assert metrics.agreement(LOGITS, LOGITS) == 1.0
    assert metrics.agreement(LOGITS, LOGITS.flip(1)) == 0.25  # only the last row's largest logit is the middle one
    with pytest.raises(ValueError, match="label 7"):
        metrics.recall(LOGITS, LABELS, 7)


@pytest.mark.parametrize("bins", [10, 15])
def test_calibration_error_worked_out_by_hand(bins):
    """Bins closed above: 0.6 and 0.55 share one; 0.05 / 5 + 0.1 / 5 + 0.8 / 5 + 0.075 * 2 / 5."""
    confidence = torch.tensor([0.95, 0.9, 0.8, 0.6, 0.55], dtype=torch.double)
    correct = torch.tensor([True, True, False, True, False])
    assert metrics.calibration_error(confidence, correct, bins=bins) == pytest.approx(0.22, abs=1e-12)


def test_calibration_error_of_one_bin_is_the_gap_of_the_means():
    confidence = torch.tensor(probabilities().max(1))
    gap = abs(0.75 - float(confidence.mean()))
    assert metrics.ece(LOGITS, LABELS, bins=1) == pytest.approx(gap, rel=1e-12)
    sure = torch.tensor([1.0, 1.0, 0.0])
    assert metrics.calibration_error(sure, torch.tensor([True, True, False])) == 0.0
    with pytest.raises(ConfigError, match="bins"):
        metrics.ece(LOGITS, LABELS, bins=0)


def test_measure_gives_the_figures_of_a_network_and_of_its_teacher():
    figures = metrics.measure(TEACHER, data(), teacher=TEACHER)
    assert set(figures) == {"accuracy", "nll", "ece", "brier", "agreement", "kl"}
    assert figures["agreement"] == 1.0
    assert figures["kl"] == 0.0
    assert set(metrics.measure(TEACHER, data())) == {"accuracy", "nll", "ece", "brier"}


def test_calibration_error_equals_torchmetrics():
    functional = pytest.importorskip("torchmetrics.functional.classification")
    generator = torch.Generator().manual_seed(0)
    for scale in (0.5, 2.0, 8.0):
        logits = scale * torch.randn(400, 7, generator=generator, dtype=torch.float64)
        labels = torch.randint(7, (400,), generator=generator)
        theirs = functional.multiclass_calibration_error(logits.softmax(1), labels, num_classes=7, n_bins=15)
        assert metrics.ece(logits, labels) == pytest.approx(float(theirs), abs=1e-6)
