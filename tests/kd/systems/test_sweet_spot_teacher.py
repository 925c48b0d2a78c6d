"""The experiment of the sweet spot: its grid of teachers, its choices and refused settings."""

from dataclasses import replace

import pytest

from policykd.errors import ConfigError
from policykd.kd.experiments.system import Fit
from policykd.kd.systems.sweet_spot_teacher import EXPERIMENT

SMALL = replace(
    EXPERIMENT.config,
    teacher=Fit((128, 128), epochs=3, batch_size=128),
    student=Fit((16,), epochs=3),
    larger_batches=(256,),
    early_epochs=(1,),
)


def test_a_cell_is_paired_and_its_choices_are_arms_of_the_grid():
    cell = EXPERIMENT.run(0, SMALL)
    EXPERIMENT.check_cell(cell)
    grid = {arm: figures for arm, figures in cell.items() if arm.startswith("batch")}
    assert len(grid) == 4
    for choice in ("sweet spot", "most accurate teacher", "choice without students"):
        assert cell[choice] in grid.values()
    assert cell["longest trained"] == grid["batch 128, 3 epochs"]
    assert cell["least trained"] == grid["batch 256, 1 epochs"]
    assert cell["longest trained"]["updates"] == 3 * cell["least trained"]["updates"] * 2
    entropies = [figures["entropy"] for figures in grid.values()]
    assert cell["grid"]["greatest rise of entropy over epochs"] == pytest.approx(
        max(entropies[1] - entropies[0], entropies[3] - entropies[2])
    )
    assert cell["grid"]["least rise of entropy over batch sizes"] == pytest.approx(
        min(entropies[2] - entropies[0], entropies[3] - entropies[1])
    )
    assert EXPERIMENT.run(0, SMALL) == cell


def test_a_teacher_taken_during_a_run_is_one_that_was_trained_so_long():
    longer = EXPERIMENT.run(0, replace(SMALL, early_epochs=(1, 3), teacher=replace(SMALL.teacher, epochs=4)))
    cell = EXPERIMENT.run(0, SMALL)
    for arm in ("batch 128, 1 epochs", "batch 128, 3 epochs", "batch 256, 3 epochs"):
        assert longer[arm] == pytest.approx(cell[arm], rel=1e-4)


def test_without_the_teachers_term_all_students_are_one():
    cell = EXPERIMENT.run(0, replace(SMALL, kd_weight=0.0, ce_weight=1.0))
    assert len({figures["accuracy"] for figures in cell.values() if "accuracy" in figures}) == 1


def test_grids_must_ascend():
    with pytest.raises(ConfigError, match="ascending"):
        replace(SMALL, early_epochs=(3,))
    with pytest.raises(ConfigError, match="shares"):
        replace(SMALL, shares=(0.5, 0.5))
    with pytest.raises(ConfigError, match="at least two"):
        replace(SMALL, larger_batches=())
