"""Systems on real data: every experiment runs on small prepared data, and its claims measure no minimized term."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from policykd.errors import ConfigError
from policykd.kd.data.samples import Samples, write_samples
from policykd.kd.evidence import EVIDENCE
from policykd.kd.evidence._data import draw_pool
from policykd.kd.evidence.modality_relation_gram import OnSmartwatch, modalities
from policykd.kd.experiments.system import Fit
from policykd.kd.systems import SYSTEMS
from policykd.kd.training.distilled_data import DistilledConfig

TINY = Fit((4, 6), steps=3, batch_size=16)
EPOCH = Fit((4, 6), epochs=1, batch_size=16)
SMALL = {
    "takd": {"teacher": EPOCH, "student": EPOCH, "assistant": EPOCH, "pool": 100},
    "crd": {"teacher": TINY, "student": TINY, "per_class": 3, "pool": 150},
    "sp": {"teacher": EPOCH, "student": EPOCH, "labeled_per_class": 2, "labeled_batch": 8, "pool": 150},
    "stkd": {"teacher": TINY, "student": TINY, "per_class": 3, "pool": 150},
    "mixup_kd": {"teacher": EPOCH, "student": EPOCH, "pool": 100},
    "ca_mkd": {"teacher": EPOCH, "student": EPOCH, "transfer": 30, "pool": 100},
    "sskd": {"teacher": TINY, "student": TINY, "head_steps": 3, "per_class": 3, "pool": 150, "side": 8},
    "single_image_kd": {"teacher": EPOCH, "student": EPOCH, "pool": 100, "patches": 40},
    "sk_kd": {"teacher": EPOCH, "student": EPOCH, "classes": 7},
    "iusp": {"teacher": EPOCH, "student": EPOCH, "clips": 40},
    "wearable_augmentation_kd": {"teacher": EPOCH, "student": TINY, "student_samples": 30, "length": 16},
    "multimodal_hashing": {"bits": (3, 4, 6), "hidden": 5, "train_steps": 4, "pairs": 8, "classifier_epochs": 1},
    "data_distillation_ser": {
        "teacher": EPOCH,
        "student": EPOCH,
        "frames": 12,
        "classes": 10,
        "distilled": DistilledConfig(rounds=2, batch_size=16),
    },
    "tasked": {"student": EPOCH, "pool": 60},
    "pskd_har": {"teacher": EPOCH, "student": EPOCH, "pool": 60},
    "modality_relation_gram": {"teacher": EPOCH, "student": EPOCH, "student_samples": 40},
}
MINIMIZED = {"sp", "gram error", "gram gap", "similarity kl", "kl_to_source", "cosine correlation", "information"}


def images():
    rng = np.random.default_rng(0)
    y = np.arange(300) % 10
    x = rng.integers(0, 200, (300, 3, 16, 16)) + 5 * y[:, None, None, None]
    return Samples(x.astype(np.uint8), y, tuple("abcdefghij"), about="x")


def series(classes, channels, steps, groups=5):
    rng = np.random.default_rng(1)
    y = rng.integers(0, classes, 40 * groups)
    x = rng.standard_normal((len(y), channels, steps)) + y[:, None, None] / classes
    names = tuple(f"person {k}" for k in range(groups))
    owners = np.repeat(np.arange(groups), 40)
    return Samples(x.astype(np.float32), y, tuple(map(str, range(classes))), owners, names, about="x")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    for name, samples in {
        "images": images(),
        "watch": series(7, 6, 32),
        "speech": series(10, 12, 20),
    }.items():
        write_samples(folder / f"{name}.npz", samples)
    watch = ("sk_kd", "pskd_har", "tasked", "modality_relation_gram", "wearable_augmentation_kd")
    speech = ("iusp", "multimodal_hashing", "data_distillation_ser")
    kinds = dict.fromkeys(watch, "watch") | dict.fromkeys(speech, "speech")
    return {name: str(folder / f"{kinds.get(name, 'images')}.npz") for name in EVIDENCE}


def test_every_experiment_has_a_small_version_here_and_the_name_of_its_system(is_recorded):
    assert set(SMALL) == set(EVIDENCE) <= set(SYSTEMS)
    assert [name for name in SMALL if not is_recorded("evidence", name)] == [], "see the head of tests/kd/conftest.py"
    for name, experiment in EVIDENCE.items():
        assert experiment.name == name
        assert experiment.claim != SYSTEMS[name].claim
        assert not any(c.metric in MINIMIZED for c in experiment.comparisons)
        assert all(c.gate == 0 or not c.required for c in experiment.comparisons)


@pytest.mark.parametrize("name", SMALL)
def test_a_small_cell_runs_and_is_the_recorded_one(name, files, recorded, trainings, limits):
    experiment = EVIDENCE[name]
    second = {"second": files["iusp"]} if name == "wearable_augmentation_kd" else {}
    found = experiment.run(0, replace(experiment.config, data=files[name], **second, **SMALL[name]))
    experiment.check_cell(found)
    relative = 0.02 if name == "multimodal_hashing" else 1e-4  # ranks of codes, which a rounding can flip
    recorded("evidence", name, {"arms": found, "trainings": trainings, "limits": limits}, relative=relative)


def test_groups_are_held_out_and_inputs_standardized(files):
    config = replace(EVIDENCE["sk_kd"].config, data=files["sk_kd"])
    train, test = draw_pool(config, 0, by_group=True)
    assert (len(train), len(test)) == (160, 40)  # four persons and one
    torch.testing.assert_close(train.x.mean((0, 2)), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(train.x.std((0, 2)), torch.ones(6), atol=1e-4, rtol=0)
    first, second = (draw_pool(config, seed, by_group=True)[1].x for seed in range(2))
    assert not torch.equal(first[:1], second[:1])


def test_every_modality_is_corrupted_and_the_clean_share_is_the_rest(files):
    study = EVIDENCE["modality_relation_gram"]
    recipe = replace(study.config, data=files["modality_relation_gram"], corruption=0.6)
    cell = OnSmartwatch.cell(0, recipe)
    counts = torch.bincount(cell.corrupted + 1, minlength=4).double() / len(cell.corrupted)
    assert len(counts) == 4
    assert abs(float(counts[0]) - 0.4) < 0.2
    assert (counts[1:] > 0.05).all()


def test_modalities_keep_their_channels():
    x = torch.zeros(2, 6, 64)
    x[0, 1] = torch.sin(torch.arange(64) * 2 * torch.pi * 4 / 64)
    views = modalities(x, 32)
    assert [v.shape[1] for v in views] == [96, 96, 51]
    assert views[1].abs().max() == 0
    assert int(views[2][0].reshape(3, 17)[1].argmax()) == 4


def test_wrong_data_are_refused(files):
    with pytest.raises(ConfigError, match=r"needs prepared data: --data <file>"):
        EVIDENCE["sk_kd"].run(0, EVIDENCE["sk_kd"].config)
    with pytest.raises(ConfigError, match="this experiment needs images"):
        EVIDENCE["takd"].run(0, replace(EVIDENCE["takd"].config, data=files["sk_kd"]))
    with pytest.raises(ConfigError, match="this experiment needs series"):
        EVIDENCE["sk_kd"].run(0, replace(EVIDENCE["sk_kd"].config, data=files["takd"]))
    with pytest.raises(ConfigError, match="kept names channel 9; the data have 6"):
        EVIDENCE["sk_kd"].run(0, replace(EVIDENCE["sk_kd"].config, data=files["sk_kd"], kept=(0, 9)))
