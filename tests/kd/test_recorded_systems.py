"""Every KD system at a small size: the metrics of all arms and the gradients of all trainings are the recorded ones."""

from dataclasses import replace

import pytest

from policykd.kd.experiments.system import Fit
from policykd.kd.systems import SYSTEMS

ONCE = Fit((8,), epochs=1, batch_size=256)
DEEP = {"teacher": Fit((12, 7), steps=4, batch_size=64), "student": Fit((9, 5), steps=4, batch_size=64)}
SMALL = {
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
    "crd": DEEP,
    "ground_truth_self_distillation": {"steps": 5},
    "hinton_kd": {
        "teacher": Fit((16,), epochs=4, batch_size=128),
        "student": Fit((6,), epochs=3),
        "few_labels_student": Fit((7,), epochs=3),
        "missing_class_student": Fit((8,), epochs=1, batch_size=128),
        "early_epochs": (1, 2),
        "eskd_epochs": 1,
    },
    "iusp": {"teacher": Fit((9, 7), steps=8), "student": Fit((6, 5), steps=5), "teacher_clips": 80, "test_clips": 50},
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
    "revisiting_self_distillation": {
        "wide": Fit((9,), epochs=1, batch_size=256),
        "flat": Fit((8,), epochs=1, batch_size=256),
        "probes": 3,
        "kernel_rounds": 4,
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
}


@pytest.mark.parametrize("name", SMALL)
def test_a_small_cell_is_the_recorded_one(name, recorded, trainings, limits):
    experiment = SYSTEMS[name]
    found = experiment.run(1, replace(experiment.config, **SMALL[name]))
    recorded("systems", name, {"arms": found, "trainings": trainings, "limits": limits})
