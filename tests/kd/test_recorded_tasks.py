"""Every task at a small size: samples, labels, split and networks are the recorded ones."""

import gzip

import numpy as np
import pytest
import test_loaders
from test_loaders import idx, write_cifar, write_har

from policykd.kd.data.samples import Samples, write_samples
from policykd.kd.networks import count_parameters
from policykd.kd.tasks import load

GENERATED = {
    "digits": {},
    "digits-few-label": {"per_class": 4},
    "digits-noisy-label": {"noise": 0.3},
    "digits-missing-class": {"missing": (2, 7)},
    "textures": {"train": 12, "val": 11, "test": 10, "side": 9, "similarity": 0.4, "noise": 0.7},
    "timeseries": {"train": 8, "val": 7, "test": 6, "length": 20, "channels": 3, "similarity": 0.4, "noise": 0.7},
}
PREPARED = {
    "auto": ("groups and test", {}),
    "groups": ("groups and test", {"split": "groups"}),
    "samples": ("groups and test", {"split": "samples"}),
    "own without groups": ("test", {"split": "own"}),
    "auto without test": ("groups", {}),
    "held out": ("groups and test", {"held_out": "p3"}),
    "few samples": ("test", {"samples": 17, "teacher_samples": 40, "side": 3}),
    "vectors": ("vectors", {}),
}


def described(task, root=""):
    """Return all that a task holds, without the folder that its files are in."""
    splits = {name: getattr(task, name) for name in ("train", "val", "test", "teacher_train")}
    found = {name: {"x": part.x, "y": part.y, "groups": part.groups} for name, part in splits.items() if part}
    sizes = {role: count_parameters(getattr(task, role)()) for role in ("student", "teacher")}
    more = {"unlabeled": task.unlabeled, "true": task.true_targets, "taps": task.taps, "classes": task.classes}
    return found | sizes | more | {"name": task.name, "about": task.about.replace(str(root), "")}


@pytest.fixture(autouse=True)
def same_files(monkeypatch):
    """Write the same files whatever ran before."""
    monkeypatch.setattr(test_loaders, "RNG", np.random.default_rng(0))


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_task_is_the_recorded_one(name, recorded):
    recorded("tasks", name, described(load(name, seed=3, **GENERATED[name])))


@pytest.mark.parametrize(("classes", "records"), [(10, 20), (100, 200)])
def test_cifar_is_read_as_recorded(tmp_path, classes, records, recorded):
    folder = tmp_path / f"cifar-{classes}-batches-bin"
    folder.mkdir()
    write_cifar(folder, "bin", classes, records)
    task = load(f"cifar{classes}", root=tmp_path, records=records, seed=1)
    recorded("tasks", f"cifar{classes}", described(task, tmp_path))


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_mnist_is_read_as_recorded(tmp_path, name, recorded):
    images = test_loaders.RNG.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    labels = (np.arange(40) % 4).astype(np.uint8)
    for stem, count in (("train", 40), ("t10k", 8)):
        (tmp_path / f"{stem}-images-idx3-ubyte").write_bytes(idx(images[:count]))
        (tmp_path / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels[:count])))
    recorded("tasks", name, described(load(name, root=tmp_path, seed=1), tmp_path))


def test_uci_har_is_read_as_recorded(tmp_path, recorded):
    write_har(tmp_path)
    recorded("tasks", "uci-har", described(load("uci-har", root=tmp_path, seed=1), tmp_path))


@pytest.mark.parametrize("shape", [(7,), (3, 32), (3, 16, 16)], ids=["vectors", "series", "pictures"])
def test_arrays_are_split_as_recorded(tmp_path, shape, recorded):
    x, y = test_loaders.RNG.normal(size=(60, *shape)), np.arange(60) % 3
    files = {"whole": {"x": x, "y": y}, "parts": {"x_train": x, "y_train": y, "x_test": x[:6], "y_test": y[:6]}}
    files["three parts"] = files["parts"] | {"x_val": x[6:15], "y_val": y[6:15]}
    found = {}
    for name, arrays in files.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        found[name] = described(load("npz", path=tmp_path / f"{name}.npz", seed=1), tmp_path)
    recorded("tasks", f"npz of {len(shape)} axes", found)


@pytest.mark.parametrize("name", PREPARED)
def test_prepared_data_are_split_as_recorded(tmp_path, name, recorded, limits):
    kind, options = PREPARED[name]
    rng, y = np.random.default_rng(0), np.arange(90) % 3
    x = rng.integers(0, 256, (90, 3, 6, 6), dtype=np.uint8) if kind != "vectors" else rng.random((90, 5), np.float32)
    groups = np.arange(90) // 10 if "groups" in kind else None
    names = tuple(f"p{k}" for k in range(9)) if "groups" in kind else ()
    test = rng.random(90) < 0.3 if "test" in kind else None
    write_samples(tmp_path / "a.npz", Samples(x, y, ("a", "b", "c"), groups, names, test, about="made up"))
    task = load("prepared", path=tmp_path / "a.npz", seed=1, **options)
    recorded("tasks", f"prepared, {name}", described(task) | {"limits": limits})
