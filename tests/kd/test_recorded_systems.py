"""Every KD system at a small size: the metrics of all arms and the gradients of all trainings are the recorded ones."""

from dataclasses import replace

import pytest

from policykd.kd.experiments.system import Fit
from policykd.kd.systems import SYSTEMS
from policykd.kd.training.conditional_gan import GanConfig
from policykd.kd.training.distilled_data import DistilledConfig

ONCE = Fit((8,), epochs=1, batch_size=256)
DEEP = {"teacher": Fit((12, 7), steps=4, batch_size=64), "student": Fit((9, 5), steps=4, batch_size=64)}
SMALL = {
    "amal": {
        "teacher": Fit((8,), epochs=1, batch_size=256),
        "student": Fit((6,), epochs=3, batch_size=256),
        "refine_every": 2,
        "updates": 2,
        "fixed": (0.5, 0.0),
    },
    "bd_kd": {"teacher": ONCE, "student": replace(ONCE, hidden=(6,))},
    "ca_mkd": {"teacher": Fit((16,), steps=12), "student": Fit((7,), steps=5)},
    "cckd": DEEP | {"per_class": 3, "labeled_batch": 12, "sampler_classes": 30},
    "ces_kd": {
        "teacher": Fit((12,), steps=6),
        "middle_expert": Fit((9,), steps=5),
        "small_expert": Fit((5,), steps=4),
        "student": Fit((6,), epochs=3, batch_size=256),
        "curriculum_epochs": 2.0,
    },
    "cgan_kd": {
        "teacher": Fit((9, 7), steps=4),
        "student": Fit((8,), steps=3),
        "gan": GanConfig(rounds=3, ratio_rounds=3, batch_size=16),
        "per_label": 5,
        "grid": 4,
    },
    "concrete_calibration": {
        "teacher": Fit((9, 7), steps=5, batch_size=400),
        "student": Fit((5,), steps=4, batch_size=8),
        "betas": (0.2, 1.0),
        "draws": 5,
    },
    "concrete_distribution": {"gradients": 300, "runs": 3, "most_steps": 12},
    "crd": DEEP,
    "cudfkd": {
        "teacher": Fit((8, 6), steps=5),
        "student": Fit((7, 5), epochs=1),
        "epochs": 4,
        "rounds": 1,
        "student_steps": 2,
        "samples": 32,
        "latent": 4,
    },
    "data_distillation_ser": {
        "teacher": Fit((6,), steps=5),
        "student": Fit((6,), epochs=1),
        "distilled": DistilledConfig(blocks=2, passes=2, rounds=3, batch_size=16, rate=0.3, halve_every=2),
        "other_starts": 2,
        "grid": (0.1, 1.0),
    },
    "dbsn": {"train_epochs": 5, "nodes": 3, "width": 5, "draws": 3, "samples": 60, "batch": 20},
    "gp_self_distillation": {"steps": 3, "samples": 40, "labeled": 30},
    "ground_truth_self_distillation": {"steps": 5},
    "hard_alignment_binary_concrete": {
        "train_steps": 3,
        "batch": 4,
        "test": 6,
        "width": 4,
        "state": 6,
        "most_frames": 30,
    },
    "hinton_kd": {
        "teacher": Fit((16,), epochs=4, batch_size=128),
        "student": Fit((6,), epochs=3),
        "few_labels_student": Fit((7,), epochs=3),
        "missing_class_student": Fit((8,), epochs=1, batch_size=128),
        "early_epochs": (1, 2),
        "eskd_epochs": 1,
    },
    "in_distribution_interpretability": {
        "teacher": Fit((8,), epochs=1, batch_size=256),
        "explained": 2,
        "mask_steps": 3,
        "mask_draws": 4,
        "judged_draws": 10,
    },
    "iusp": {"teacher": Fit((9, 7), steps=8), "student": Fit((6, 5), steps=5), "teacher_clips": 80, "test_clips": 50},
    "kdgan": {"contexts": 3, "labels": 4, "rounds": 12, "early": 5, "batch_size": 16},
    "mixup_kd": {"teacher": ONCE, "student": replace(ONCE, hidden=(6,)), "partial": 0.3, "beta": 2.0},
    "modality_relation_gram": {
        "teacher": Fit((9, 6), epochs=3),
        "student": Fit((7, 4), epochs=3),
        "teacher_samples": 120,
        "student_samples": 60,
        "test_samples": 90,
    },
    "multi_ta_de": {
        **{f"{size}_assistant": Fit((width,), steps=6) for size, width in (("large", 9), ("middle", 7), ("small", 5))},
        "corrupted_assistant": Fit((8,), steps=5),
        "teacher": Fit((11,), steps=8),
        "student": Fit((6,), epochs=2),
        "long_epochs": 3,
        "validation": 60,
        "transfer": 70,
    },
    "multimodal_hashing": {"bits": (3, 4, 6), "hidden": 5, "train_steps": 4, "pairs": 8, "classifier_epochs": 1},
    "nurd": {
        "samples": 100,
        "test_samples": 50,
        "batch": 20,
        "train_epochs": 2,
        "critic_epochs": 0.5,
        "density_epochs": 2,
    },
    "pskd_har": {
        "teacher": Fit((8,), epochs=2),
        "student": Fit((6,), epochs=3, batch_size=40),
        "samples": 80,
        "test_samples": 50,
        "vector_size": 9,
    },
    "revisiting_self_distillation": {
        "wide": Fit((9,), epochs=1, batch_size=256),
        "flat": Fit((8,), epochs=1, batch_size=256),
        "probes": 3,
        "kernel_rounds": 4,
    },
    "ros_kd": {
        "teacher": Fit((8,), epochs=2, batch_size=256),
        "student": Fit((6,), epochs=3, batch_size=256),
        "average_start": 1,
        "attack_steps": 2,
    },
    "single_image_kd": {
        "teacher": Fit((12,), steps=5),
        "student": Fit((6,), epochs=1, batch_size=50),
        "patches": 100,
    },
    "sk_kd": {"teacher": Fit((9,), steps=5), "student": Fit((7,), steps=5), "test_samples": 80},
    "sp": DEEP | {"labeled_per_class": 3, "labeled_batch": 12},
    "sskd": {
        "teacher": Fit((3, 5), steps=4, batch_size=16),
        "student": Fit((2, 4), steps=3, batch_size=16),
        "head_steps": 5,
        "per_class": 4,
    },
    "stkd": {"teacher": Fit((12,), steps=8), "student": Fit((9,), steps=5), "images": 3, "concentration": 1.5},
    "sweet_spot_teacher": {
        "teacher": Fit((12,), epochs=3, batch_size=128),
        "student": Fit((6,), epochs=2),
        "larger_batches": (256,),
        "early_epochs": (1,),
    },
    "takd": {
        "teacher": replace(ONCE, hidden=(11,)),
        "assistant": replace(ONCE, hidden=(9,)),
        "student": replace(ONCE, hidden=(5,)),
    },
    "tasked": {"student": Fit((7, 5), epochs=2, batch_size=48), "windows": 24, "test_windows": 30},
    "wearable_augmentation_kd": {
        "teacher": Fit((6,), epochs=1),
        "student": Fit((4,), steps=3, batch_size=10),
        "teacher_samples": 60,
        "student_samples": 20,
        "test_samples": 30,
        "length": 16,
    },
}


def test_every_system_has_a_small_cell_that_is_recorded(is_recorded):
    assert set(SMALL) == set(SYSTEMS)
    assert [name for name in SMALL if not is_recorded("systems", name)] == [], "see the head of tests/kd/conftest.py"


ROUNDING = {"cudfkd": 0.15}
"""Systems whose generators amplify how a processor rounds: how far apart two processors may be."""


@pytest.mark.parametrize("name", SMALL)
def test_a_small_cell_is_the_recorded_one(name, recorded, trainings, limits):
    experiment = SYSTEMS[name]
    found = experiment.run(1, replace(experiment.config, **SMALL[name]))
    values = {"arms": found, "trainings": trainings, "limits": limits}
    recorded("systems", name, values, relative=ROUNDING.get(name, 1e-4))
