"""Teachers of every kind give the same signals, and refuse what cannot be distilled from."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.ensemble import RandomForestClassifier
from sklearn.gaussian_process import GaussianProcessClassifier
from torch import nn

from policykd.kd.networks import MLP
from policykd.kd.objective.teachers import CallableTeacher, TeacherError, as_teacher, as_teachers, from_sklearn
from policykd.kd.training.teacher_cache import TeacherCache


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return MLP((4,), (6,), classes=3).eval()


def test_a_module_runs_without_gradient_and_gives_tapped_features(network):
    x = torch.randn(5, 4)
    signals = as_teacher(network).signals(x, None, {"h": "hidden1"})
    torch.testing.assert_close(signals.logits, network(x))
    torch.testing.assert_close(signals.features["h"], network.hidden1(x))
    assert not any(tensor.requires_grad for tensor in signals.tensors())


def test_a_module_in_train_mode_is_refused_down_to_its_layers(network):
    x = torch.randn(2, 4)
    network.hidden1.train()
    with pytest.raises(TeacherError, match=r"MLP is in train mode \(hidden1\).*call teacher.eval\(\) first"):
        as_teacher(network).signals(x, None, {})
    with pytest.raises(TeacherError, match="the module itself"):
        as_teacher(network.train()).signals(x, None, {})


@pytest.mark.parametrize("kind", [RandomForestClassifier(5, random_state=0), GaussianProcessClassifier(random_state=0)])
def test_scikit_learn_classifiers_teach_their_probabilities(kind):
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(40, 4)), generator.integers(0, 3, 40)
    estimator = kind.fit(x[y != 1], y[y != 1])
    batch = torch.from_numpy(x[:7]).float()
    logits = from_sklearn(estimator, classes=3).signals(batch, None, {}).logits
    probabilities = logits.softmax(1).numpy()
    np.testing.assert_allclose(probabilities[:, [0, 2]], estimator.predict_proba(x[:7].astype("float32")), atol=1e-6)
    assert probabilities[:, 1].max() < 1e-9
    assert bool(torch.isfinite(logits).all())
    assert as_teacher(estimator).signals(batch, None, {}).logits.shape == (7, 3)


def test_callables_must_give_probabilities_unless_they_say_logits():
    x = torch.randn(3, 4)
    with pytest.raises(TeacherError, match=r"are not probabilities: least value .* row sums"):
        as_teacher(lambda x: torch.ones(len(x), 5)).signals(x, None, {})
    signals = CallableTeacher(lambda x: torch.ones(len(x), 5), gives="logits").signals(x, None, {})
    assert torch.equal(signals.logits, torch.ones(3, 5))
    with pytest.raises(ValueError, match=r"must return logits \(3, C\)"):
        as_teacher(lambda x: torch.full((2, 4), 0.25)).signals(x, None, {})
    with pytest.raises(TeacherError, match="no layers to tap"):
        as_teacher(lambda x: torch.full((3, 4), 0.25)).signals(x, None, {"a": "a"})
    with pytest.raises(TypeError, match="not a int"):
        as_teacher(3)


def test_several_teachers_have_names(network):
    assert list(as_teachers([network, network])) == ["0", "1"]
    assert list(as_teachers({"big": network})) == ["big"]
    assert list(as_teachers(nn.ModuleList([network]))) == ["0"]
    assert list(as_teachers(network)) == ["teacher"]
    assert as_teachers(None) == {}


def batches(x, size=4):
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    return [(x[part], part) for part in order.split(size)]


def test_a_cache_gives_back_what_the_teacher_said(network, tmp_path):
    x = torch.randn(10, 4)
    cache = TeacherCache.write(tmp_path / "cache", network, batches(x), samples=10, taps=["hidden1"])
    index = torch.tensor([7, 0, 7])
    signals = TeacherCache.open(tmp_path / "cache").signals(x[index], index, {"h": "hidden1"})
    torch.testing.assert_close(signals.logits, network(x[index]))
    torch.testing.assert_close(signals.features["h"], network.hidden1(x[index]))
    assert isinstance(cache.logits, np.memmap)
    assert isinstance(as_teacher(cache), TeacherCache)


def test_a_safetensors_file_is_a_cache_too(tmp_path):
    logits = torch.randn(6, 3)
    save_file({"logits": logits, "pool": torch.randn(6, 2)}, tmp_path / "t.safetensors")
    index = torch.tensor([4, 1])
    assert torch.equal(TeacherCache.open(tmp_path / "t.safetensors").signals(index, index, {}).logits, logits[index])


def test_a_cache_refuses_what_it_cannot_answer(network, tmp_path):
    x = torch.randn(6, 4)
    cache = TeacherCache.write(tmp_path / "c", network, batches(x), samples=6)
    with pytest.raises(TeacherError, match=r"keyed by sample index: call objective\(..., index=indices\)"):
        cache.signals(x, None, {})
    with pytest.raises(TeacherError, match="holds samples 0 to 5, not 2 to 6"):
        cache.signals(x[:2], torch.tensor([2, 6]), {})
    with pytest.raises(TeacherError, match="no feature 'fc'; it holds logits only"):
        cache.signals(x[:2], torch.tensor([0, 1]), {"fc": "fc"})
    with pytest.raises(TeacherError, match="2 indices for a batch of 3"):
        cache.signals(x[:3], torch.tensor([0, 1]), {})


def test_an_incomplete_or_damaged_cache_is_refused_and_leaves_nothing(network, tmp_path):
    x = torch.randn(6, 4)
    with pytest.raises(TeacherError, match=r"2 of 8 samples were in no batch, the first is 6"):
        TeacherCache.write(tmp_path / "c", network, batches(x), samples=8)
    assert list(tmp_path.iterdir()) == []
    TeacherCache.write(tmp_path / "c", network, batches(x), samples=6)
    array = tmp_path / "c" / "000.npy"
    array.write_bytes(array.read_bytes()[:-8])
    with pytest.raises(TeacherError, match=r"000.npy is damaged"):
        TeacherCache.open(tmp_path / "c")
    with pytest.raises(TeacherError, match=r"manifest.json cannot be read"):
        TeacherCache.open(tmp_path / "nothing")


def test_a_cache_never_unpickles_and_never_leaves_its_folder(tmp_path):
    folder = tmp_path / "c"
    folder.mkdir()
    np.save(tmp_path / "outside.npy", np.zeros((2, 2)))
    np.save(folder / "000.npy", np.array([{"a": 1}, {"b": 2}]), allow_pickle=True)
    for file in ("000.npy", "../outside.npy"):
        manifest = {"format": 1, "samples": 2, "files": {"logits": file}}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(TeacherError, match="damaged or missing"):
            TeacherCache.open(folder)


def test_a_new_cache_replaces_the_one_that_is_there(network, tmp_path):
    x = torch.randn(6, 4)
    for rows in (x, x + 1.0):
        cache = TeacherCache.write(tmp_path / "c", network, batches(rows), samples=6)
    index = torch.arange(6)
    torch.testing.assert_close(cache.signals(x, index, {}).logits, network(x + 1.0))
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
