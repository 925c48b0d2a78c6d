"""Loops, fields, averages, metrics, data and power at their edges, each against numbers written out."""

import io
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from policykd.errors import ConfigError
from policykd.kd import metrics, running_metrics
from policykd.kd.data.files import DataFileError, check_size, find, read_all
from policykd.kd.data.samples import Samples, read_samples, write_samples
from policykd.kd.data.splits import split_groups
from policykd.kd.data.windows import cut_windows, resample
from policykd.kd.tasks import prepared
from policykd.kd.tasks.base import Split, stratified, with_wrong_labels
from policykd.kd.training import loop
from policykd.kd.training.averaging import Averaging, WeightAverage, refresh_statistics
from policykd.kd.training.batches import Batch, Batches
from policykd.kd.training.config import TrainConfig
from policykd.kd.training.fields import Fields, as_targets, collate

X, Y = torch.arange(12.0).reshape(6, 2), torch.arange(6) % 3


def test_positions_of_an_epoch_count_from_the_first_of_a_stage():
    seen, weight = [], nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    batches = Batches((X, Y), 2, shuffle=False)

    def backward(batch, position):
        assert weight.grad is None
        weight.grad = torch.full((1,), 3.0)
        return position

    for clip, moved in ((None, 3.0), (0.5, 0.5)):
        with torch.no_grad():
            weight.zero_()
        done = list(loop.train_epoch(backward, optimizer, batches, 5, seen.append, clip_norm=clip, first=3, start=1))
        assert [position for _, position in done] == pytest.approx([2 + 1 / 3, 2 + 2 / 3])
        assert [batch.index.tolist() for batch, _ in done] == [[2, 3], [4, 5]]
        assert float(weight.detach()) == pytest.approx(-2 * moved)
    assert seen == pytest.approx([2 + 1 / 3, 2 + 2 / 3] * 2)


def test_outputs_that_are_refused_are_blamed_on_weights_beyond_all_bounds():
    def refuse(batch, position):
        raise ValueError("refused")

    for size, error in ((1e8, ValueError), (-1e8, ValueError), (1e9, FloatingPointError), (-2e9, FloatingPointError),
                        (math.nan, FloatingPointError)):  # fmt: skip
        with pytest.raises(error):
            loop._differentiated(refuse, None, 0.5, [torch.zeros(2), torch.tensor([0.0, size])])


def test_a_loss_of_labels_and_teacher():
    student, teacher = nn.Linear(2, 3), torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    batch = Batch(X[2:], Y[2:], torch.arange(2, 6), (4,))
    logits = student(X[2:])
    ce = F.cross_entropy(logits, Y[2:])
    kd = 4.0 * F.kl_div((logits / 2).log_softmax(1), (teacher[2:] / 2).softmax(1), reduction="batchmean")
    for kd_weight, ce_weight, expected in ((0.9, 0.1, 0.9 * kd + 0.1 * ce), (0.9, 0.0, 0.9 * kd), (0.0, 0.5, 0.5 * ce),
                                           (0.0, 0.0, 0.0 * ce)):  # fmt: skip
        loss = loop.distillation(student, teacher, temperature=2.0, kd_weight=kd_weight, ce_weight=ce_weight)
        torch.testing.assert_close(loss(batch, 0), expected)
    asked = nn.Linear(2, 3)
    assert torch.equal(loop.teach(asked, batch), asked(X[2:]).detach())
    assert not loop.teach(asked, batch).requires_grad


def test_training_leaves_networks_evaluated_and_the_stream_of_the_caller_alone():
    network = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.Linear(4, 3))
    modes = []
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)

    def loss(batch, epoch):
        modes.append((epoch, network.training))
        return F.cross_entropy(network(batch.x), batch.targets)

    loop.minimize(loss, network, (X, Y), TrainConfig(epochs=2, batch_size=3))
    assert modes == [(0, True), (0, True), (1, True), (1, True)]
    assert not network.training
    assert torch.equal(torch.rand(1), expected)
    with pytest.raises(FloatingPointError, match="the loss is inf after epoch 1; lower the learning rate"):
        loop.minimize(lambda batch, epoch: network(batch.x).square().sum() * math.inf, network, (X + 1, Y),
                      TrainConfig(epochs=1, batch_size=6))  # fmt: skip
    pair = [nn.Linear(2, 3), nn.Linear(2, 3)]
    before = [one.weight.detach().clone() for one in pair]
    loop.minimize(lambda batch, epoch: sum(F.cross_entropy(one(batch.x), batch.targets) for one in pair), pair, (X, Y),
                  TrainConfig(epochs=1, batch_size=6))  # fmt: skip
    assert not any(torch.equal(one.weight, old) for one, old in zip(pair, before, strict=True))
    one, two, three = (loop.seeded(lambda: nn.Linear(2, 2), seed, "a") for seed in (1, 1, 2))
    assert torch.equal(one.weight, two.weight)
    assert not torch.equal(one.weight, three.weight)


def test_fields_of_mappings_and_sequences():
    whole = {"a": X, "b": X + 1, "labels": Y, "mask": X > 3, "w": torch.ones(6)}
    parts = Fields(mask="mask", weights="w").read(whole)
    assert list(parts.x) == ["a", "b", "mask"]
    assert parts.targets is Y
    assert parts.weights is whole["w"]
    assert Fields().read({"a": X, "y": Y}).x is X
    assert Fields().read({"a": X}).targets is None
    assert Fields(inputs="b").read(whole).x is whole["b"]
    assert list(Fields(inputs=["b", "a"]).read(whole).x) == ["b", "a"]
    with pytest.raises(ConfigError, match=r"has label and y: say Fields\(targets='label'\)"):
        Fields().read({"a": X, "y": Y, "label": Y})
    with pytest.raises(ConfigError, match=r"no entry 'q'; it has \['a'\]"):
        Fields(targets="q").read({"a": X})
    assert Fields().read((X,)).targets is None
    assert Fields().read((X, Y)).targets is Y
    three = Fields(inputs=[0, 2], targets=1).read((X, Y, X))
    assert len(three.x) == 2
    assert three.targets is Y
    assert Fields(weights=2).read((X, Y, X)).targets is Y
    with pytest.raises(ConfigError, match="a batch has 3 entries: say which are what"):
        Fields().read((X, Y, X))
    with pytest.raises(ConfigError, match="no entry 5; it has 2 entries"):
        Fields(mask=5).read((X, Y))
    with pytest.raises(ConfigError, match="not a int"):
        Fields().read(3)
    assert as_targets(torch.ones(2, dtype=torch.int32)).dtype == torch.int64
    for kept in (torch.ones(2), torch.ones(2, dtype=torch.bool), torch.ones(2, dtype=torch.complex64)):
        assert as_targets(kept).dtype == kept.dtype
    assert as_targets(None) is None
    assert as_targets([1, 2]).tolist() == [1, 2]
    with pytest.raises(TypeError, match="labels must be numbers"):
        as_targets(["cat"])
    batch = collate([{"x": (np.ones(2), 1.0)}, {"x": (np.zeros(2), 3.0)}])
    assert batch["x"][0].tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert batch["x"][1].tolist() == [1.0, 3.0]
    for bad in ("a", b"a", None):
        with pytest.raises(TypeError, match="map it in the data set"):
            collate([bad])


@pytest.mark.parametrize(("kind", "expected"), [("ema", [1.0, 1.25, 1.9375]), ("swa", [1.0, 1.5, 7 / 3])])
def test_averages_of_weights(kind, expected):
    network = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    average = WeightAverage(Averaging(kind, decay=0.75))
    for step, (weight, wanted) in enumerate(zip((1.0, 2.0, 4.0), expected, strict=True), 1):
        nn.init.constant_(network[0].weight, weight)
        network[1].num_batches_tracked.fill_(step)
        average.update(network)
        assert average.count == step
        assert float(average.values["0.weight"]) == pytest.approx(wanted)
    assert int(average.values["1.num_batches_tracked"]) == 3
    made = average.network(network.train(), iter([X[:, :1]]))
    assert float(made[0].weight.detach()) == pytest.approx(expected[-1])
    assert not made.training
    assert float(network[0].weight.detach()) == 4.0
    refreshed = float(made[1].running_mean)
    mean = float(made[0](X[:, :1]).detach().mean())
    assert refreshed == pytest.approx(mean if kind == "swa" else 0.0, rel=1e-4)
    assert Averaging(kind, refresh=kind == "ema").refreshes is (kind == "ema")
    for decay in (-0.1, 1.0):
        with pytest.raises(ConfigError, match=r"decay must be in \[0, 1\)"):
            Averaging(kind, decay=decay)
    assert Averaging(decay=0.0).decay == 0.0


def test_fresh_statistics_are_means_over_batches():
    network = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2), nn.Dropout(0.5)).train()
    network[1].momentum = 0.3
    before = network[1].running_mean.clone()
    refresh_statistics(network, [X[:4], X[4:]], ["1"])
    torch.testing.assert_close(network[0].running_mean, (X[:4].mean(0) + X[4:].mean(0)) / 2)
    assert torch.equal(network[1].running_mean, before)
    assert [layer.training for layer in network] == [False] * 3
    assert (network[0].momentum, network[1].momentum) == (0.1, 0.3)


def test_metrics_of_scores_and_confidences():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 0.5]])
    labels = torch.tensor([0, 0, 1, 1])
    p = logits.double().softmax(1)
    top, right = p.max(1).values, p.argmax(1) == labels
    for bins in (1, 4, 15):
        total = 0.0
        for low in range(bins):
            inside = (top > low / bins) & (top <= (low + 1) / bins)
            if inside.any():
                total += float(inside.sum()) / 4 * abs(float(right[inside].double().mean() - top[inside].mean()))
        assert metrics.ece(logits, labels, bins=bins) == pytest.approx(total, abs=1e-12)
        running = running_metrics.CalibrationError(bins)
        running.update(logits[:3], labels[:3])
        running.update(logits[3:], labels[3:])
        assert running.compute() == pytest.approx(total, abs=1e-12)
    assert running_metrics.CalibrationError().compute() == 0.0
    assert metrics.calibration_error(torch.tensor([0.5, 1.0]), torch.tensor([True, False]), bins=2) == 0.75
    assert metrics.brier(logits, labels) == pytest.approx(float((p - F.one_hot(labels)).square().sum(1).mean()))
    with pytest.raises(ConfigError, match="bins"):
        metrics.calibration_error(top, right, bins=0)
    with pytest.raises(ValueError, match="at least one positive label"):
        metrics.micro_average_precision(logits, torch.zeros(4, 2))
    with pytest.raises(ValueError, match="need one shape"):
        metrics.micro_average_precision(logits, labels)


def test_running_metrics_over_batches():
    outputs = torch.tensor([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]])
    values = torch.tensor([[0.0], [1.0], [3.5]])
    for kind, expected in ((running_metrics.AbsoluteError, 2 / 3), (running_metrics.RootMeanSquaredError, 0.5**0.5)):
        made = kind()
        assert math.isnan(made.compute())
        made.update(outputs[:1], values[:1])
        made.update(outputs[1:], values[1:])
        assert made.compute() == pytest.approx(expected)
    balanced = running_metrics.BalancedAccuracy(3)
    balanced.update(torch.eye(3)[[0, 0, 1, 0]], torch.tensor([0, 0, 1, 1]))
    assert balanced.compute() == pytest.approx((1.0 + 0.5) / 2)
    f1 = running_metrics.LabelF1()
    f1.update(torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, -1.0]]), torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    assert f1.compute() == pytest.approx((2 / 3 + 1.0 + 0.0) / 3)
    binary = running_metrics.LabelNegativeLogLikelihood()
    binary.update(torch.zeros(2, 3), torch.ones(2, 3))
    assert binary.compute() == pytest.approx(math.log(2))


def test_windows_and_resampling():
    recording = np.arange(14.0).reshape(7, 2)
    assert cut_windows(recording, 3, 2)[:, 0].tolist() == [[0, 2, 4], [4, 6, 8], [8, 10, 12]]
    assert cut_windows(recording, 7, 1).shape == (1, 2, 7)
    assert cut_windows(recording, 3, 2).dtype == np.float32
    for bad in (recording[:2], recording[0]):
        with pytest.raises(DataFileError, match="has no window of 3 steps"):
            cut_windows(bad, 3, 1)
    assert resample(np.array([[0.0, 1.0, 4.0]]), 5).tolist() == [[0.0, 0.5, 1.0, 2.5, 4.0]]


def samples(**changes):
    given = {"x": np.zeros((4, 2, 3), np.float32), "y": np.array([0, 1, 0, 1]), "classes": ("a", "b"),
             "groups": np.array([0, 0, 1, 2]), "group_names": ("p", "q", "r"),
             "test": np.array([False, False, True, True]), "channels": ("u", "v"), "rate": 12.5,
             "about": "Made up."}  # fmt: skip
    return Samples(**{**given, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.zeros((4, 2, 3))}, "float32 or uint8"), ({"x": np.zeros(4, np.float32)}, "float32 or uint8"),
        ({"x": np.zeros((4, 1, 1, 1, 1), np.float32)}, "float32 or uint8"),
        ({"x": np.zeros((0, 2), np.float32)}, "float32 or uint8"),
        ({"x": np.array([[[0.0] * 3] * 2] * 3 + [[[0.0, np.nan, 0.0]] * 2], np.float32)}, "not finite"),
        ({"y": np.array([0, 1, 0])}, r"labels must be int64 \(4,\)"), ({"y": np.zeros(4, np.int32)}, "labels must be"),
        ({"y": np.array([0, 2, 0, 1])}, "labels are 0 to 2, expected 0 to 1"),
        ({"y": np.array([0, -1, 0, 1])}, "labels are -1 to 1"),
        ({"groups": np.array([0, 0, 1, 3])}, "groups are 0 to 3, expected 0 to 2"),
        ({"test": np.zeros(3, bool)}, r"test must be bool \(4,\)"), ({"test": np.zeros(4, int)}, "test must be bool"),
        ({"channels": ("u",)}, "1 names for 2 channels"),
    ],
)  # fmt: skip
def test_samples_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(DataFileError, match=message):
        samples(**changes)


def test_samples_come_back_from_their_file(tmp_path):
    for given in (samples(), samples(groups=None, group_names=(), test=None, channels=())):
        write_samples(tmp_path / "new" / "s.npz", given)
        found = read_samples(tmp_path / "new" / "s.npz")
        assert (found.summary, found.checksum) == (given.summary, given.checksum)
        assert (found.classes, found.group_names, found.channels, found.rate, found.about) == (
            given.classes, given.group_names, given.channels, given.rate, given.about)  # fmt: skip
    assert samples().summary == "4 samples 2 x 3, 2 classes, 3 groups, 2 of them its own test part"
    assert given.summary == "4 samples 2 x 3, 2 classes"
    assert samples(rate=3.0).checksum != samples().checksum
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(DataFileError, match="was not prepared by"):
        read_samples(tmp_path / "other.npz")
    arrays = dict(np.load(tmp_path / "new" / "s.npz"))
    np.savez(tmp_path / "changed.npz", **{**arrays, "rate": np.array(2.0)})
    with pytest.raises(DataFileError, match="its checksum differs"):
        read_samples(tmp_path / "changed.npz")


def test_files_and_their_sizes(tmp_path):
    (tmp_path / "b").write_bytes(b"123")
    assert find(tmp_path, "a", "b") == tmp_path / "b"
    with pytest.raises(DataFileError, match=r"none of these exists: .*a, .*c"):
        find(tmp_path, "a", "c")
    check_size(tmp_path / "b", b"123", 3, "a header")
    with pytest.raises(DataFileError, match=r"has 3 bytes, expected 4 \(a header\)"):
        check_size(tmp_path / "b", b"123", 4, "a header")
    (tmp_path / "x.gz").write_bytes(b"no")
    with pytest.raises(DataFileError, match=r"x\.gz \(2 bytes\) cannot be read"):
        read_all(tmp_path / "x.gz")
    with pytest.raises(DataFileError, match=r"\(0 bytes\) cannot be read"):
        read_all(tmp_path / "y")
    assert read_all(tmp_path / "b") == b"123"


def test_pictures_up_to_their_limit():
    Image = pytest.importorskip("PIL.Image")
    from policykd.kd.data.pictures import decode_picture

    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    assert decode_picture(buffer.getvalue(), "p", limit=6).tolist() == pixels.transpose(2, 0, 1).tolist()
    with pytest.raises(DataFileError, match="p has 3 x 2 pixels, expected at most 5 in all"):
        decode_picture(buffer.getvalue(), "p", limit=5)
    with pytest.raises(DataFileError, match=r"p \(4 bytes\) is not a complete JPEG, PNG or BMP"):
        decode_picture(b"1234", "p")


def test_parts_of_prepared_data():
    data = samples(test=None)
    own = samples(groups=np.array([0, 1, 2, 2]))
    train, val, test = prepared._split(own, "auto", "", 0)
    assert (sorted([*train, *val]), test.tolist(), len(val)) == ([0, 1], [2, 3], 1)
    rest = prepared._split(data, "auto", "q", 0)
    assert rest[2].tolist() == [2]
    assert sorted([*rest[0], *rest[1]]) == [0, 1, 3]
    for given, split, held_out, message in ((samples(groups=None), "groups", "", "has no groups"),
                                            (samples(groups=None), "auto", "q", "has no groups"),
                                            (samples(test=None), "own", "", "no test part of its own")):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            prepared._split(given, split, held_out, 0)
    by_group = prepared._split(samples(test=None), "auto", "", 0)
    assert [len({int(data.groups[i]) for i in part}) for part in by_group] == [1, 1, 1]
    images = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert prepared._averaged(images, None) is images
    assert prepared._averaged(images, 4).tolist() == images.tolist()
    assert prepared._averaged(images, 1).tolist() == [[[[7.5]]]]
    for x, side in ((images, 5), (images, 0), (images[0], 2)):
        with pytest.raises(ConfigError, match=f"side is {side}; it is for images"):
            prepared._averaged(x, side)
    labels, rows = np.array([0] * 9 + [1] * 3), np.arange(12)
    drawn = prepared._draw(labels, rows, 8, 0)
    assert np.bincount(labels[drawn]).tolist() == [6, 2]
    assert np.bincount(labels[prepared._draw(labels, rows, 2, 0)]).tolist() == [1, 1]
    assert prepared._draw(labels, rows, 12, 0) is rows
    assert (np.diff(drawn) > 0).all()
    with pytest.raises(ConfigError, match="samples is 1"):
        prepared._draw(labels, rows, 1, 0)


def test_stratified_parts_and_wrong_labels():
    labels = np.array([0] * 10 + [1] * 5)
    parts = stratified(labels, (0.6, 0.2, 0.2), 3)
    assert [np.bincount(labels[part]).tolist() for part in parts] == [[6, 3], [2, 1], [2, 1]]
    assert sorted(np.concatenate(parts)) == list(range(15))
    for split in (stratified, split_groups):
        for shares in ((0.5, 0.6), (1.0, 0.0), (1.5, -0.5)):
            with pytest.raises(ValueError, match="shares must be positive and sum to one"):
                split(labels, shares, 0)
    with pytest.raises(ValueError, match=r"class 0 has 1 sample\(s\), too few for 2 parts"):
        stratified([0], (0.5, 0.5), 0)
    changed = with_wrong_labels(np.arange(100) % 4, 0.3, 4, np.random.default_rng(0))
    assert (changed != np.arange(100) % 4).sum() == 30
    assert set(changed) == {0, 1, 2, 3}
    with pytest.raises(ValueError, match="2 inputs but 3 labels"):
        Split(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="2 groups but 3 labels"):
        Split(torch.zeros(3), torch.zeros(3), torch.zeros(2))
