"""Batches, outputs, inputs and selection at their edges: sizes, messages, ties and what is left alone."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from policykd.errors import ConfigError, ShapeError, UnknownNameError
from policykd.kd import ensembles
from policykd.kd.metric_registry import metric_for
from policykd.kd.objective import inputs
from policykd.kd.objective.loss_call import FunctionLoss, LossCall
from policykd.kd.objective.outputs import Outputs, read_output
from policykd.kd.objective.signals import Signals, check_finite
from policykd.kd.training import samplers
from policykd.kd.training.averaging import Averaging
from policykd.kd.training.batches import Batch, Batches
from policykd.kd.training.fields import Fields
from policykd.kd.training.selection import RunState, Selection

X, Y = torch.arange(14.0).reshape(7, 2), torch.arange(7) % 3


@pytest.mark.parametrize(
    ("size", "drop", "world", "lengths"),
    [(3, False, 1, [3, 3, 1]), (3, True, 1, [3, 3]), (3, False, 2, [3, 3]), (7, True, 1, [7]), (9, False, 1, [7]),
     (4, False, 3, [4, 3]), (4, False, 4, [4])],
)  # fmt: skip
def test_an_incomplete_batch_is_left_out_where_it_must_be(size, drop, world, lengths):
    shares = [Batches((X, Y), size, drop_last=drop, rank=rank, world=world, shuffle=False) for rank in range(world)]
    assert [len(made) for made in shares] == [len(lengths)] * world
    for step, whole in enumerate(zip(*(made.epoch(0) for made in shares), strict=True)):
        index = torch.cat([batch.index for batch in whole])
        assert index.tolist() == list(range(sum(lengths[:step]), sum(lengths[: step + 1])))
        assert sum(whole[0].sizes) == lengths[step]
        assert all(torch.equal(batch.x, X[batch.index]) for batch in whole)
    later = list(shares[0].epoch(0, start=1))
    assert len(later) == len(lengths) - 1
    if later:
        assert torch.equal(later[0].index, list(shares[0].epoch(0))[1].index)


def test_data_that_give_no_batch_or_do_not_fit_are_refused():
    for given, message in (
        (((X, Y), 8, {"drop_last": True}), r"7 sample\(s\) give no batch of 8 over 1 process"),
        (((X, Y[:6]), 3, {}), "7 inputs but 6 labels"),
        (({"x": X, "mask": torch.ones(5, 2), "y": Y}, 3, {"fields": Fields(mask="mask")}), "rows of the mask"),
    ):
        with pytest.raises(ValueError, match=message):
            Batches(*given[:2], **given[2])
    for bad in (3, object()):
        with pytest.raises(ConfigError, match=f"not a {type(bad).__name__}"):
            Batches(bad, 3)


def test_augmentation_sees_the_whole_batch_and_a_generator_of_the_step():
    seen = []

    def augment(x, generator):
        seen.append((len(x), float(torch.rand(1, generator=generator))))
        return x + 100.0

    shares = [Batches((X, Y), 4, augment=augment, rank=rank, world=2, shuffle=False) for rank in range(2)]
    first, second = (list(made.epoch(0)) for made in shares)
    assert [batch.augmented for batch in (*first, *second)] == [True] * 4
    assert torch.equal(torch.cat([first[0].x, second[0].x]), X[:4] + 100.0)
    draws = [draw for _, draw in seen]
    assert [count for count, _ in seen] == [4, 3, 4, 3]
    assert draws[:2] == draws[2:]
    assert len(set(draws)) == 2
    seen.clear()
    list(shares[0].epoch(1))
    assert draws[0] not in [draw for _, draw in seen]
    plain = next(Batches(TensorDataset(X, Y), 4, shuffle=False).epoch(0))
    assert (plain.augmented, plain.variants, plain.variant_start) == (False, None, 0)
    assert torch.equal(plain.teacher_index, plain.index)
    moved = Batch(X, Y, torch.arange(7), (7,), variant_start=14)
    assert moved.teacher_index.tolist() == list(range(14, 21))


def test_orders_of_epochs_differ_and_are_repeated():
    def order(epoch, **options):
        return torch.cat([batch.index for batch in Batches((X, Y), 3, **options).epoch(epoch)]).tolist()

    assert order(0) == order(0)
    assert sorted(order(0)) == list(range(7))
    assert len({tuple(order(epoch, seed=seed)) for epoch in range(2) for seed in range(2)}) == 4
    assert order(3, shuffle=False) == list(range(7))


def test_inputs_of_every_form():
    pair, named = [X, Y, "text"], {"a": X, "b": [Y, 3], "c": None}
    assert [inputs.count_samples(x) for x in (X, pair, named)] == [7, 7, 7]
    assert next(iter(inputs.tensors_of(named))) is X
    for x in ([], {}, ["a"]):
        with pytest.raises(TypeError, match="needs at least one input tensor, got"):
            inputs.first_tensor(x)
    cut = inputs.split_inputs(pair, [3, 4])
    assert torch.equal(cut[1][0], X[3:])
    assert torch.equal(cut[0][1], Y[:3])
    assert cut[1][2] == "text"
    assert [len(part) for part in inputs.split_inputs(X, [3, 4])] == [3, 4]
    assert torch.equal(inputs.cut_inputs(named, 2, 3)["b"][0], Y[2:5])
    bad = X.clone()
    bad[4, 1] = torch.nan
    for x, message in ((bad, "the input batch"), ([Y, bad], "input 1 of the batch"), ({"q": bad}, "input 'q' of")):
        with pytest.raises(ValueError, match=rf"{message}.* has 1 non-finite value\(s\), the first in sample 4"):
            inputs.check_inputs(x)
    with pytest.raises(TypeError, match=r"Linear does not take the bytes \(uint8\) of this batch"):
        inputs.call_network(nn.Linear(2, 2), X.to(torch.uint8))
    with pytest.raises(RuntimeError, match="shapes"):
        inputs.call_network(nn.Linear(3, 2), X)
    assert inputs.device_of(nn.Identity()) == torch.device("cpu")


def test_finite_values_are_told_from_others():
    check_finite(torch.tensor([1e38, 1e38, 1e38]), "x")  # their sum is infinite
    check_finite(Y, "x")
    with pytest.raises(ValueError, match=r"x \(3,\) has 2 non-finite value\(s\), the first in sample 1"):
        check_finite(torch.tensor([0.0, torch.inf, torch.nan]), "x")
    parts = [Signals(X[:3], {"a": Y[:3]}), Signals(X[3:], {"a": Y[3:]})]
    whole = Signals.concatenated(parts)
    assert torch.equal(whole.logits, X)
    assert torch.equal(whole.features["a"], Y)
    half = Signals(X.half(), {"a": X.bfloat16(), "b": X.double(), "c": Y}).full_precision()
    kinds = [half.logits.dtype, *(t.dtype for t in half.features.values())]
    assert kinds == [torch.float32, torch.float32, torch.float64, torch.int64]


def test_layouts_of_outputs():
    for layout, plain, events, axis in (("BC", True, False, 1), ("BTC", False, True, 2), ("BCHW", False, True, 1)):
        made = Outputs(layout)
        assert (made.plain, made.has_events, made.class_axis) == (plain, events, axis)
    one = Outputs("B", kind="regression")
    assert (one.plain, one.has_events, one.class_axis) == (False, False, None)
    assert one.rows(torch.arange(3.0)).tolist() == [[0.0], [1.0], [2.0]]
    for layout in ("CB", "BB", "B1", "", "BCTT"):
        with pytest.raises(ConfigError, match="it must name every axis once, batch first"):
            Outputs(layout)
    with pytest.raises(ConfigError, match="has no class axis C"):
        Outputs("BT")
    with pytest.raises(ConfigError, match="ignore_index needs kind='single_label'"):
        Outputs(kind="multi_label", ignore_index=0)


@pytest.mark.parametrize(
    ("outputs", "shape", "message"),
    [
        (Outputs(), (4, 5, 3), r"logits \(4, C\) for a batch of 4, it returned .*'BTC'\)\) or Outputs\('BCT'\)$"),
        (Outputs(), (4, 5, 3, 2), r"Outputs\('BTSC'\)\) or Outputs\('BCHW'\)$"),
        (Outputs(), (4, 5, 3, 2, 2), r"Outputs\('BTSRC'\)\) or Outputs\('BCDHW'\)$"),
        (Outputs(), (8, 3), r"if its rows are 2 events per sample"),
        (Outputs(), (7, 3), r"it returned \(7, 3\)$"),
        (Outputs(), (4,), r"it returned \(4,\)$"),
        (Outputs(kind="regression"), (4,), r"must return values .*for one value per sample: Outputs\('B'"),
        (Outputs("BTC"), (4, 3), r"logits \(4, T, C\) for a batch of 4, it returned \(4, 3\)$"),
        (Outputs("BTC"), (3, 5, 3), r"it returned \(3, 5, 3\)$"),
    ],
)  # fmt: skip
def test_outputs_that_do_not_fit_are_told_how_to_be_read(outputs, shape, message):
    with pytest.raises(ShapeError, match=message):
        outputs.checked(torch.zeros(shape), 4, "the net")


def test_targets_fit_the_kind_of_outputs():
    logits = torch.zeros(3, 4)
    for kind, targets, expected in (
        ("single_label", torch.tensor([0, 3, 1]), [0, 3, 1]),
        ("multi_label", torch.eye(4)[:3], torch.eye(4)[:3].tolist()),
        ("regression", torch.ones(3, 2), [[1.0, 1.0]] * 3),  # means and deviations
        ("regression", torch.ones(3, 4), [[1.0] * 4] * 3),
    ):
        assert Outputs(kind=kind).target_rows(targets, logits, validate=True).tolist() == expected
    for kind, targets, message in (
        ("single_label", torch.tensor([0, 4, 1]), r"must be in \[0, 3\] for logits with 4 classes, got 0 to 4$"),
        ("single_label", torch.tensor([0, -100, 1]), "got -100 to 1; outputs=.*ignore_index=-100"),
        ("single_label", torch.tensor([0, 1]), "targets must be .3,. for a batch of 3, got .2,."),
        ("single_label", torch.zeros(3, 3), r"soft targets must be \(3, 4\), got \(3, 3\)"),
        ("multi_label", torch.full((3, 4), 1.01), r"must be in \[0, 1\], got 1.01 to 1.01"),
        ("multi_label", torch.full((3, 4), -0.01), r"must be in \[0, 1\]"),
        ("multi_label", torch.zeros(3, 2), r"multi_label targets must be \(3, 4\)"),
        ("regression", torch.zeros(3, 3), r"regression targets must be \(3, 4\), got \(3, 3\)"),
        ("regression", torch.zeros(3), "regression targets must be"),
    ):
        with pytest.raises(ValueError, match=message):
            Outputs(kind=kind).target_rows(targets, logits, validate=True)
    for wrong in (torch.zeros(3), torch.zeros(3, dtype=torch.bool)):
        with pytest.raises(TypeError, match=r"integer class labels \(B,\), got torch"):
            Outputs().target_rows(wrong, logits, validate=True)
    known = Outputs(ignore_index=9).target_rows(torch.tensor([9, 0, 3]), logits, validate=True)
    assert known.tolist() == [9, 0, 3]
    assert Outputs(ignore_index=9).target_rows(torch.tensor([9, 9, 9]), logits, validate=True).tolist() == [9, 9, 9]
    assert Outputs().target_rows(torch.tensor([7, 7, 7]), logits, validate=False).tolist() == [7, 7, 7]
    loose = Outputs().target_rows(torch.full((3, 4), 0.5), logits, validate=True, distributions=False)
    assert float(loose.sum()) == 6.0
    assert Outputs(kind="multi_label").blank_targets(logits).shape == (3, 4)
    assert Outputs().blank_targets(logits).tolist() == [0, 0, 0]
    assert read_output({"a": X}, "a", "net") is X
    for output, reader, message in (({"a": 1}, None, r"its output is a dict with \['a'\]"),
                                    ({"a": 1}, "a", "entry 'a' of its output"),
                                    ((X,), 1, r"its output is a tuple of \['Tensor'\]")):  # fmt: skip
        with pytest.raises(TypeError, match=message):
            read_output(output, reader, "net")


def test_what_a_loss_receives():
    call = LossCall.of(nn.CrossEntropyLoss())
    assert (call.pair, call.uses_teacher, call.uses_labels, call.requires_labels) == (False, False, True, True)
    open_ = LossCall.of(nn.MSELoss())
    assert (open_.pair, open_.undecided, open_.uses_teacher) == (True, True, True)
    labels = LossCall.of(nn.MSELoss(), "labels")
    assert (labels.undecided, labels.uses_teacher, labels.requires_labels) == (False, False, True)
    assert LossCall.of(nn.MSELoss(), "teacher").uses_labels is False
    own = LossCall.of(FunctionLoss(lambda s, t, labels=None, idx=0, scale=2.0: (s, t, labels, idx), scale=1.0))
    assert (own.target, own.index, own.requires_labels) == ("labels", "idx", False)
    loss = FunctionLoss(lambda s, t, labels=None, idx=0, scale=2.0: (s, t, labels, idx, scale), scale=1.0)
    assert own(loss, 1, 2, 3, 4) == (1, 2, 3, 4, 1.0)
    assert LossCall.of(nn.MSELoss(), "labels")(lambda a, b: (a, b), 1, 2, 3, 4) == (1, 3)
    with pytest.raises(TypeError, match=r"it cannot give \['more'\]"):
        LossCall.of(FunctionLoss(lambda s, t, more: s))
    with pytest.raises(TypeError, match=r"cannot give \[\]"):
        LossCall.of(FunctionLoss(lambda: 0))
    with pytest.raises(ConfigError, match="not 'neither'"):
        LossCall.of(nn.MSELoss(), "neither")
    for against in ("teacher", "labels"):
        with pytest.raises(ConfigError, match=f"FunctionLoss cannot be taken against the {against}"):
            LossCall.of(FunctionLoss(lambda s: s), against)
    assert LossCall.of(nn.CrossEntropyLoss(), "labels").uses_labels


@pytest.mark.parametrize(("metric", "values"), [("accuracy", (0.5, 0.7, 0.7, 0.6)), ("mae", (3, 1, 1, 2))])
def test_the_earliest_best_weights_are_kept(metric, values, monkeypatch):
    kept, kind = 2, "single_label" if metric == "accuracy" else "regression"
    chosen, student, state = metric_for(metric, kind), nn.Linear(1, 1), RunState()
    selection = Selection(chosen, (), Outputs(kind=kind), Fields(), None)
    selection.begin()
    assert selection.summary(state, "best") == {"select": "best"}
    found = iter(values)
    monkeypatch.setattr("policykd.kd.training.selection.evaluate", lambda *_, **__: {chosen.name: next(found)})
    for epoch in range(1, 5):
        state.epoch = epoch
        nn.init.constant_(student.weight, float(epoch))
        selection.validate(state, student, None, None)
    assert (state.best_epoch, state.best, float(selection.best_weights["weight"])) == (kept, values[kept - 1], kept)
    assert selection.summary(state, "last") == {"select": "last", "best_epoch": kept,
                                                f"best_val_{chosen.name}": values[kept - 1]}  # fmt: skip
    assert "average" not in selection.state_dict()


def test_averages_begin_at_their_epoch_and_are_of_their_kind():
    selection = Selection(metric_for("", "single_label"), (), Outputs(), Fields(), Averaging("ema", start=2))
    selection.begin()
    student = nn.Linear(1, 1)
    for kind, epochs, count in (("swa", 5, 0), ("ema", 1, 0), ("ema", 2, 1), ("ema", 3, 2)):
        selection.average(kind, student, epochs)
        assert selection._average.count == count
    assert "average" in selection.state_dict()


def test_class_samplers_at_their_edges():
    labels = np.array([0] * 5 + [1] * 4 + [2] * 3)
    made = samplers.ClassUniformSampler(labels, classes=2, per_class=2)
    assert (made.batch_size, len(made)) == (4, 2)
    assert len(list(made.epoch(0))) == 2
    made.set_epoch(3)
    assert [list(made), list(made)] == [list(made.epoch(3)), list(made.epoch(4))]
    samplers.ClassUniformSampler(labels, classes=3, per_class=3)
    for classes, per_class, message in ((3, 4, "only 2 have that many"), (0, 1, "at least 1, got 0 and 1"),
                                        (1, 0, "at least 1, got 1 and 0")):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            samplers.ClassUniformSampler(labels, classes=classes, per_class=per_class)
    for bad in (np.zeros((2, 2), int), np.zeros(0, int), np.zeros(3)):
        with pytest.raises(ValueError, match="labels must be integers"):
            samplers.ClassUniformSampler(bad, classes=1, per_class=1)
    assert samplers.same_class_share([0, 0, 1, 1, 1]) == pytest.approx(4 / 10)
    assert samplers.same_class_share([0, 1]) == 0.0
    with pytest.raises(ConfigError, match="labels go from 0 to 2, super-classes are given for 2"):
        samplers.SuperclassUniformSampler(labels, [0, 0], classes=1, per_class=1)


def test_weighted_ensembles():
    p = np.array([[[0.8, 0.2], [0.4, 0.6]], [[0.2, 0.8], [0.0, 1.0]]])
    assert ensembles.normalized([1, 3]).tolist() == [0.25, 0.75]
    assert ensembles.normalized([0, 0, 0]).tolist() == pytest.approx([1 / 3] * 3)
    assert ensembles.normalized([[1, 0], [1, 0]]).tolist() == [[0.5, 0.5], [0.5, 0.5]]
    mixed = 0.25 * p[0] + 0.75 * p[1]
    np.testing.assert_allclose(ensembles.ensemble_probabilities(p, [1, 3]), mixed)
    assert ensembles.ensemble_nll(p, [0, 1], [1, 3]) == pytest.approx(-np.log([0.35, 0.9]).mean())
    assert ensembles.ensemble_accuracy(p, [0, 1], [1, 3]) == 0.5
    assert np.isfinite(ensembles.ensemble_nll(p, [0, 0], [0, 1]))
    for weights in ([-1, 1], [np.nan, 1], [], 1.0):
        with pytest.raises(ConfigError, match="finite and not negative"):
            ensembles.normalized(weights)
    with pytest.raises(ConfigError, match="2 members need 2 weights"):
        ensembles.ensemble_probabilities(p, [1, 1, 1])
    for bad in (p[0], p[:, :0], p * 1.01, p * [[[1.0, -1.0]]]):
        with pytest.raises(ConfigError, match="probabilities must"):
            ensembles.ensemble_probabilities(bad, [1, 1])
    for labels in ([0], [0, 2], [-1, 0], [0.0, 1.0]):
        with pytest.raises(ConfigError, match=r"labels must be \(2,\) integers in \[0, 1\]"):
            ensembles.ensemble_accuracy(p, labels, [1, 1])
    one = ensembles.evolve_weights(p[:1], [0, 1], seed=0)
    assert (one.weights.tolist(), one.evaluations) == ([1.0], 0)
    assert one.value == pytest.approx(-np.log([0.8, 0.6]).mean())
    assert ensembles.evolve_weights(p[:1], [1, 1], seed=0, goal="accuracy").value == 0.5
    with pytest.raises(UnknownNameError, match="goal"):
        ensembles.evolve_weights(p, [0, 1], seed=0, goal="loss")
    logits = torch.tensor([[[2.0, 0.0]], [[0.0, 4.0]]])
    w = torch.tensor([0.25, 0.75])
    for softening, expected in (
        ("softened", 2.0 * (w[:, None, None] * (logits / 2).softmax(-1)).sum(0).log()),
        ("resoftened", (w[:, None, None] * logits.softmax(-1)).sum(0).log()),
        ("logits", (w[:, None, None] * logits).sum(0)),
    ):
        found = ensembles.ensemble_logits(logits, [1, 3], temperature=2.0, softening=softening)
        torch.testing.assert_close(found, expected)
    member = torch.tensor([1])
    assert ensembles.selected_logits(logits, member).tolist() == [[0.0, 4.0]]
    for bad, message in ((torch.tensor([2]), r"in \[0, 1\], got 2 to 2"), (torch.tensor([-1]), "got -1 to -1"),
                         (torch.tensor([0, 1]), r"shape \(1,\), got \(2,\)")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            ensembles.selected_logits(logits, bad)


def test_an_untrained_network_may_stay_the_best(monkeypatch):
    chosen, student, state = metric_for("mae", "regression"), nn.Linear(1, 1), RunState()
    selection = Selection(chosen, (), Outputs(kind="regression"), Fields(), None)
    selection.begin()
    found = iter((1.0, 2.0))
    monkeypatch.setattr("policykd.kd.training.selection.evaluate", lambda *_, **__: {"mae": next(found)})
    for epoch in (0, 1):
        state.epoch = epoch
        selection.validate(state, student, None, None)
    assert (state.best_epoch, state.best) == (0, 1.0)


def test_events_may_be_marked_by_numbers():
    from policykd.kd.objective.rows import _event_mask

    logits = torch.zeros(2, 3, 4)
    outputs = Outputs(layout="BTC")
    found = _event_mask(outputs, logits, torch.tensor([[0, 1, 2], [3, 0, 0]]))
    assert found.dtype == torch.bool
    assert found.tolist() == [False, True, True, True, False, False]
    assert torch.equal(
        _event_mask(outputs, logits, torch.ones(2, 3, dtype=torch.bool)), torch.ones(6, dtype=torch.bool)
    )


def test_digits_are_between_zero_and_one():
    pytest.importorskip("sklearn")
    from policykd.kd.tasks.digits import all_digits

    whole = all_digits()
    assert float(whole.x.max()) == 1.0
    assert float(whole.x.min()) == 0.0
    assert whole.x.shape[1:] == (1, 8, 8)
