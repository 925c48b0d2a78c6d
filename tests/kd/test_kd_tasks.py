"""Tasks: splits that do not leak, regimes that are what they say, and difficulty that follows its dial."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from policykd.errors import UnknownNameError
from policykd.kd.networks import count_parameters
from policykd.kd.tasks import Split, Task, available, load, register, stratified
from policykd.kd.tasks.series import sensor_series
from policykd.kd.tasks.textures import texture_images

OFFLINE = {
    "digits": {},
    "digits-few-label": {},
    "digits-noisy-label": {},
    "digits-missing-class": {},
    "textures": {"train": 40, "val": 20, "test": 20},
    "timeseries": {"train": 36, "val": 12, "test": 12},
}


def rows(x: torch.Tensor) -> set[bytes]:
    return {row.numpy().tobytes() for row in x}


@pytest.mark.parametrize("name", OFFLINE)
def test_tasks_are_complete_and_repeatable(name):
    task, again, other = (load(name, seed=seed, **OFFLINE[name]) for seed in (0, 0, 1))
    assert torch.equal(task.train.x, again.train.x)
    assert torch.equal(task.train.y, again.train.y)
    assert not torch.equal(task.train.x[:20], other.train.x[:20])
    torch.manual_seed(0)
    student, teacher = task.student(), task.teacher()
    assert count_parameters(student) * 4 < count_parameters(teacher)
    paths = dict(student.named_modules()), dict(teacher.named_modules())
    assert all(tap in names for taps in task.taps.values() for tap in taps for names in paths)
    for network in (student, teacher):
        assert network.eval()(task.val.x[:3]).shape == (3, task.classes)
    assert task.train.x.dtype == torch.float32
    assert task.train.y.dtype == torch.int64


@pytest.mark.parametrize("name", OFFLINE)
def test_no_sample_is_in_two_splits(name):
    task = load(name, **OFFLINE[name])
    parts = [rows(part.x) for part in (task.for_teacher, task.val, task.test)]
    assert len(set.union(*parts)) == sum(map(len, parts))
    assert rows(task.train.x) <= parts[0]


def test_digits_regimes_are_what_they_say():
    whole, few = load("digits"), load("digits-few-label", per_class=3)
    assert torch.equal(torch.bincount(few.train.y), torch.full((10,), 3))
    assert len(few.unlabeled) + len(few.train) == len(whole.train)
    assert not rows(few.unlabeled) & rows(few.train.x)
    noisy = load("digits-noisy-label", noise=0.3)
    wrong = noisy.train.y != noisy.true_targets
    assert float(wrong.double().mean()) == pytest.approx(0.3, abs=1e-3)
    assert torch.equal(noisy.for_teacher.y, whole.train.y)
    assert torch.equal(noisy.test.y, whole.test.y)
    lacking = load("digits-missing-class", missing=(3, 8))
    assert set(lacking.train.y.tolist()) == set(range(10)) - {3, 8}
    assert set(lacking.for_teacher.y.tolist()) == set(lacking.test.y.tolist()) == set(range(10))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("digits-few-label", {"per_class": 0}, "per_class must be in"),
        ("digits-noisy-label", {"noise": 1.0}, "noise must be in"),
        ("digits-missing-class", {"missing": (11,)}, "missing must name"),
        ("textures", {"similarity": 1.5}, "similarity must be in"),
        ("timeseries", {"val": 2}, "at least one series per class"),
    ],
)
def test_impossible_options_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        load(name, **options)


def spectrum(images: np.ndarray) -> np.ndarray:
    """Phase-free features, in which the generated classes are nearly linear."""
    axes = tuple(range(2, images.ndim))
    power = np.abs(np.fft.fftn(images, axes=axes)).reshape(len(images), -1)
    logs = np.log1p(power)
    return (logs - logs.mean(0)) / logs.std(0)


def linear_accuracy(x: np.ndarray, y: np.ndarray) -> float:
    half = len(y) // 2
    model = LogisticRegression(C=0.001, max_iter=500).fit(x[:half], y[:half])
    return model.score(x[half:], y[half:])


@pytest.mark.parametrize("kind", ["textures", "series"])
def test_classes_get_harder_with_similarity_and_end_at_chance(kind):
    labels = np.arange(400) % 5
    scores = []
    for similarity in (0.0, 0.9, 1.0):
        options = {"classes": 5, "similarity": similarity, "seed": 0}
        if kind == "textures":
            x = texture_images(labels, noise=0.5, side=12, **options)
        else:
            x = sensor_series(labels, channels=3, length=32, noise=0.5, **options)
        scores.append(linear_accuracy(spectrum(x), labels))
    assert scores[0] > 0.85
    assert scores[0] > scores[1] + 0.1
    assert scores[1] > scores[2]
    assert abs(scores[2] - 0.2) < 0.1


def test_stratified_parts_are_a_partition_with_equal_classes():
    labels = np.repeat([0, 1, 2], [50, 100, 10])
    parts = stratified(labels, (0.6, 0.2, 0.2), 0)
    assert sorted(np.concatenate(parts)) == list(range(160))
    assert [np.bincount(labels[part]).tolist() for part in parts] == [[30, 60, 6], [10, 20, 2], [10, 20, 2]]
    with pytest.raises(ValueError, match="sum to one"):
        stratified(labels, (0.5, 0.2), 0)
    with pytest.raises(ValueError, match=r"class 1 has 1 sample\(s\), too few for 2 parts"):
        stratified([0, 0, 1], (0.5, 0.5), 0)


def test_the_registry_names_close_matches_and_keeps_names_unique():
    assert set(OFFLINE) < set(available())
    with pytest.raises(UnknownNameError, match="did you mean digits-few-label"):
        load("digits-few-labels")
    with pytest.raises(ValueError, match="already"):
        register("digits")(lambda: None)  # type: ignore[arg-type,return-value]


def test_labels_out_of_range_are_refused():
    split = Split(torch.zeros(2, 1), torch.tensor([0, 5]))
    with pytest.raises(ValueError, match="train has labels 0 to 5, expected 0 to 2"):
        Task("x", split, split, split, 3, torch.nn.Identity, torch.nn.Identity)
