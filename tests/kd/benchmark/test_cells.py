"""A cell: equal budgets, a choice on validation data alone, figures on test data of the chosen student."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from policykd.errors import ConfigError
from policykd.kd.benchmark import cells, seed_context
from policykd.kd.benchmark.reference import training
from policykd.kd.benchmark.settings import Setting, candidates
from policykd.kd.metrics import figures
from policykd.kd.training.teacher_cache import TeacherCache


class Says(nn.Module):
    """Gives fixed logits, told apart by how many samples are asked for; notes what it was asked for."""

    def __init__(self, answers):
        super().__init__()
        self.answers, self.asked = answers, []

    def forward(self, x):
        self.asked.append(len(x))
        return self.answers[len(x)]


def right(labels, share, height=3.0):
    """Logits that name the right class for a share of the samples."""
    logits = height * torch.nn.functional.one_hot(labels, 4).float()
    cut = round(share * len(labels))
    return torch.cat([logits[:cut], logits[cut:].roll(1, 1)])


def test_times_are_those_of_all_of_the_preparation_and_of_one_epoch(context, monkeypatch):
    clocks = {"perf_counter": iter([100.0, 107.0]), "process_time": iter([10.0, 13.0, 25.0])}
    fake = SimpleNamespace(**{name: clock.__next__ for name, clock in clocks.items()})
    monkeypatch.setattr(cells, "time", fake)
    made = context("ce", train=training(2, 24, 0.05))
    _, times = cells.train(made, "ce", Setting(ce_weight=0.0))
    assert times == {"seconds": 7.0, "seconds_prepared": 3.0, "seconds_per_epoch": 6.0}


@pytest.fixture
def staged(context, monkeypatch):
    """A context whose students are given: pairs of shares right on validation and on test data."""

    def make(*students):
        made = context("ce", "kd", tune=len(students), task_options=(*context().config.task_options[:-1], ("val", 10)))
        task, networks = made.task, []
        for val, test, height in students:
            answers = {len(task.val): right(task.val.y, val, height), len(task.test): right(task.test.y, test, height)}
            networks.append(Says(answers))
        queue = iter(networks)
        times = {"seconds": 2.0, "seconds_prepared": 0.5, "seconds_per_epoch": 1.0}
        monkeypatch.setattr(cells, "train", lambda context, method, setting: (next(queue), times))
        return cells.measure(made, "kd"), networks, made

    return make


def test_validation_chooses_and_test_data_are_read_once_for_the_chosen(staged):
    cell, networks, made = staged((0.5, 1.0, 3.0), (0.8, 0.5, 3.0), (0.7, 0.9, 3.0))
    val, test = len(made.task.val), len(made.task.test)
    assert val != test
    assert cell["chosen"] == 1
    assert cell["test"]["accuracy"] == 0.5
    assert [network.asked for network in networks] == [[val], [val, test], [val]]
    assert [candidate["val"]["accuracy"] for candidate in cell["candidates"]] == [0.5, 0.8, 0.7]


def test_a_tie_goes_to_the_lower_validation_loss_then_to_the_earlier(staged):
    assert staged((0.8, 0.1, 9.0), (0.8, 0.9, 1.0), (0.8, 0.2, 9.0))[0]["chosen"] == 1
    assert staged((0.8, 0.1, 1.0), (0.8, 0.9, 1.0))[0]["chosen"] == 0


def test_every_method_gets_the_same_number_of_candidates(context):
    made = context("ce", "kd", tune=2)
    reported = []
    for method in ("ce", "kd"):
        cell = cells.measure(made, method, reported.append)
        assert [c["setting"]["options"] for c in cell["candidates"]] == [s.options for s in candidates(method, 2)]
        json.dumps(cell, allow_nan=False)
    assert reported == [1, 2, 1, 2]


def test_candidates_start_from_the_same_student_and_see_the_same_batches(context, monkeypatch):
    made, seen = context("ce", "kd"), []

    class Noted(cells.Distiller):
        def fit(self, train, val=None, **options):
            seen.append(
                (self.config.seed, self.config.optimizer.lr, [p.clone() for p in self.student.parameters()], val)
            )
            return super().fit(train, val, **options)

    monkeypatch.setattr(cells, "Distiller", Noted)
    for method, setting in (("ce", Setting(ce_weight=0.0)), ("kd", Setting(lr_factor=0.5))):
        cells.train(made, method, setting)
    (seed, lr, first, val), (other_seed, other_lr, other, _) = seen
    assert (seed, lr, val) == (other_seed, 2 * other_lr, None)
    assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_distilling_from_the_cache_is_distilling_from_the_teacher(context, monkeypatch):
    made = context("ce", "kd")
    cached, _ = cells.train(made, "kd", Setting())
    monkeypatch.setattr(seed_context, "CACHE_BYTES", 100)
    assert isinstance(made.teaching([]), TeacherCache)
    assert made.teaching(["layer3"]) is made.teacher
    monkeypatch.setattr(made, "teaching", lambda taps: made.teacher)
    live, _ = cells.train(made, "kd", Setting())
    for a, b in zip(cached.state_dict().values(), live.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)  # the cache was computed in other batches


def test_features_are_computed_once_and_given_up_when_memory_is_full(context, monkeypatch):
    made, counted = context("at", "sp"), []
    compute = made._features_of
    monkeypatch.setattr(made, "_features_of", lambda taps, n: (counted.append((n, tuple(taps))), compute(taps, n))[1])
    both = made.teaching(["layer1", "pool"])
    again = made.teaching(["pool"])
    assert [call for call in counted if call[0] > 1] == [(48, ("layer1", "pool"))]
    assert again.features["pool"].tobytes() == both.features["pool"].tobytes()
    monkeypatch.setattr(seed_context, "CACHE_BYTES", 48 * 6 * 16 * 4 + 100)  # layer2 alone
    assert set(made.teaching(["layer2"]).features) == {"layer2"}
    assert set(made._features) == {"layer2"}


def test_cross_entropy_asks_no_teacher(context, monkeypatch):
    made = context()
    monkeypatch.setattr(made, "teaching", lambda taps: pytest.fail("asked"))
    cells.train(made, "ce", Setting(ce_weight=0.0))


def test_a_training_that_diverges_is_named(context, monkeypatch):
    made = context("ce", "kd", "sp", train=training(3, 24, 0.05))
    for method in ("kd", "sp"):  # one loss is not finite, the other refuses features that are not
        with pytest.raises(ConfigError, match=rf"{method} diverged on seed 0 \(.*finite.*\); lower train.optimizer.lr"):
            cells.train(made, method, Setting(lr_factor=1e30))

    def refuse(*arguments, **options):
        raise ValueError("something else")

    monkeypatch.setattr(cells.Distiller, "fit", refuse)
    with pytest.raises(ValueError, match="something else"):
        cells.train(made, "kd", Setting())


def test_figures_against_numpy():
    rng = np.random.default_rng(0)
    z, t, y = rng.normal(0, 2, (200, 5)), rng.normal(0, 2, (200, 5)), rng.integers(0, 5, 200)
    p, q = (np.exp(v) / np.exp(v).sum(1, keepdims=True) for v in (z, t))
    found = figures(torch.tensor(z), torch.tensor(y), torch.tensor(t))
    onehot = np.eye(5)[y]
    confidence, correct = p.max(1), p.argmax(1) == y
    bins = np.ceil(confidence * 15).astype(int)
    expected = {
        "accuracy": correct.mean(),
        "agreement": (p.argmax(1) == q.argmax(1)).mean(),
        "kl": (q * np.log(q / p)).sum(1).mean(),
        "brier": ((p - onehot) ** 2).sum(1).mean(),
        "nll": -np.log(p[np.arange(200), y]).mean(),
        "ece": sum(abs((correct - confidence)[bins == b].sum()) for b in range(1, 16)) / 200,
    }
    assert found == pytest.approx(expected, rel=1e-6)
