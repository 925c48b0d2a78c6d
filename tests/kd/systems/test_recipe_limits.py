"""Recipes of the systems: values at the edge are taken, and each value beyond it is refused alone."""

from dataclasses import replace

import pytest

from policykd.errors import ConfigError
from policykd.kd.experiments.system import Fit
from policykd.kd.systems import SYSTEMS

TAKEN = [
    ("takd", {"shares": (0.01, 0.99)}),
    ("hinton_kd", {"early_epochs": (1, 119)}),
    ("hinton_kd", {"missing_class": 0}),
    ("hinton_kd", {"missing_class": 9}),
    ("modality_relation_gram", {"student_samples": 2000}),
    ("modality_relation_gram", {"student_samples": 1}),
    ("sk_kd", {"kept": (0, 21)}),
    ("sk_kd", {"student": Fit((16,), steps=5, batch_size=2)}),
    ("stkd", {"images": 40}),
    ("stkd", {"images": 2}),
    ("cckd", {"labeled_batch": 60}),
    ("cckd", {"labeled_batch": 1}),
    ("sp", {"labeled_batch": 60}),
    ("sskd", {"student": Fit((8, 16), steps=4, batch_size=100)}),
    ("sskd", {"student": Fit((8, 16), steps=4, batch_size=2)}),
    ("ground_truth_self_distillation", {"tuning_folds": 2}),
    ("ground_truth_self_distillation", {"tuning_folds": 200}),
    ("revisiting_self_distillation", {"early_rounds": 7}),
    ("revisiting_self_distillation", {"early_rounds": 1}),
    ("sweet_spot_teacher", {"larger_batches": (17,)}),
    ("sweet_spot_teacher", {"early_epochs": (1, 119)}),
    ("ces_kd", {"kd_weight": 1.0, "ce_weight": 0.0}),
]
REFUSED = [
    ("takd", {"shares": (0.4, 0.5)}),
    ("takd", {"shares": (0.2, 0.2, 0.6)}),
    ("takd", {"shares": (0.001, 0.999)}),
    ("takd", {"temperature": 0.0}),
    ("takd", {"kd_weight": -0.1}),
    ("hinton_kd", {"early_epochs": ()}),
    ("hinton_kd", {"early_epochs": (3, 120)}),
    ("hinton_kd", {"early_epochs": (3, 0)}),
    ("hinton_kd", {"missing_class": 10}),
    ("hinton_kd", {"missing_class": -1}),
    ("modality_relation_gram", {"student_samples": 2001}),
    ("modality_relation_gram", {"student_samples": 0}),
    ("modality_relation_gram", {"teacher": Fit((64, 32, 8), epochs=1)}),
    ("modality_relation_gram", {"student": Fit((64, 32, 8), epochs=1)}),
    ("sk_kd", {"kept": (0, 22)}),
    ("sk_kd", {"kept": (-1, 3)}),
    ("sk_kd", {"student": Fit((16,), steps=5, batch_size=1)}),
    ("sk_kd", {"student": Fit((16,), steps=5, batch_size=121)}),
    ("stkd", {"images": 41}),
    ("stkd", {"images": 1}),
    ("cckd", {"labeled_batch": 61}),
    ("cckd", {"labeled_batch": 0}),
    ("sp", {"labeled_batch": 61}),
    ("sp", {"labeled_batch": 0}),
    ("sskd", {"student": Fit((8, 16), steps=4, batch_size=101)}),
    ("sskd", {"student": Fit((8, 16), steps=4, batch_size=1)}),
    ("ground_truth_self_distillation", {"tuning_folds": 1}),
    ("ground_truth_self_distillation", {"tuning_folds": 201}),
    ("revisiting_self_distillation", {"shares": (1.0, 0.0)}),
    ("revisiting_self_distillation", {"shares": (0.5, 0.4)}),
    ("revisiting_self_distillation", {"early_rounds": 8}),
    ("revisiting_self_distillation", {"early_rounds": 0}),
    ("sweet_spot_teacher", {"larger_batches": (64, 32)}),
    ("sweet_spot_teacher", {"larger_batches": (16, 64)}),
    ("sweet_spot_teacher", {"early_epochs": (0, 3)}),
    ("sweet_spot_teacher", {"early_epochs": (3, 120)}),
    ("sweet_spot_teacher", {"early_epochs": ()}),
    ("ces_kd", {"kd_weight": 0.6}),
    ("ces_kd", {"kd_weight": 1.1, "ce_weight": -0.1}),
]


@pytest.mark.parametrize(("name", "change"), TAKEN, ids=str)
def test_values_at_the_edge_are_taken(name, change):
    replace(SYSTEMS[name].config, **change)


@pytest.mark.parametrize(("name", "change"), REFUSED, ids=str)
def test_values_beyond_the_edge_are_refused(name, change):
    with pytest.raises(ConfigError):
        replace(SYSTEMS[name].config, **change)


@pytest.mark.parametrize(
    "change",
    [{"epochs": 0}, {"steps": 1}, {"epochs": -1}, {"hidden": (3, 0)}, {"lr": 0.0}, {"batch_size": 0}],
)
def test_fits_that_break_one_rule_are_refused(change):
    fields = {"hidden": (3,), "epochs": 1, "lr": 1e-9, "batch_size": 1}
    Fit(**fields)
    with pytest.raises(ConfigError):
        Fit(**fields | change)


def test_steps_become_whole_epochs_of_full_batches():
    config = Fit((3,), steps=7, batch_size=4).config(11, 5)  # two full batches of 11 samples
    assert (config.epochs, config.batch_size, config.drop_last, config.seed) == (4, 4, True, 5)
    config = Fit((3,), steps=7, batch_size=64).config(11, 5)
    assert (config.epochs, config.batch_size, config.drop_last) == (7, 11, True)
    config = Fit((3,), epochs=3, batch_size=64).config(11, 5)
    assert (config.epochs, config.batch_size, config.drop_last) == (3, 64, False)
