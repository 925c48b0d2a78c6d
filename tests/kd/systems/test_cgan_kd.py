"""The samples that students get, and the arms of the experiment."""

from dataclasses import replace

import pytest
import torch

from policykd.errors import ConfigError
from policykd.kd.experiments.system import Fit
from policykd.kd.systems.cgan_kd import EXPERIMENT, CGANKDRecipe, Problem, diabetes_rows
from policykd.kd.training.conditional_gan import GanConfig

TINY = CGANKDRecipe(
    teacher=Fit((16, 8), steps=60),
    student=Fit((8,), steps=4),
    gan=GanConfig(rounds=3, ratio_rounds=3, batch_size=16),
    per_label=8,
    grid=4,
)


@pytest.fixture(scope="module", params=["digits", "records"])
def problem(request):
    found = Problem(0, TINY, request.param)
    found.train_generator()
    return found


def test_samples_are_generated_for_every_label(problem):
    for rejected in (False, True):
        data = problem.fakes(rejected=rejected)
        assert data.x.shape == (8 * len(problem.values), problem.width)
        assert torch.equal(data.y.unique(), problem.values.sort().values)
    assert torch.equal(problem.fakes(rejected=True).x, data.x)


def test_the_filter_keeps_what_the_teacher_agrees_with(problem):
    data = problem.fakes(rejected=False)
    kept, errors = problem.filtered(data), problem.errors(problem.teacher, data).detach()
    share = 0.9 if problem.classes else 0.7
    assert len(kept) == pytest.approx(share * len(data), abs=len(problem.values))
    assert float(problem.errors(problem.teacher, kept).detach().mean()) < float(errors.mean())
    processed = problem.processed(data)
    expected = kept.y if problem.classes else problem.teacher(kept.x)[:, 0].detach()
    torch.testing.assert_close(processed.y, expected)


def test_gaussians_have_the_mean_and_the_inflated_spread_of_the_real_samples():
    recipe = replace(TINY, per_label=2000, inflation=3.0)
    problem = Problem(0, recipe, "digits")
    made = problem.gaussians()
    for label in (0, 7):
        real, drawn = problem.real.x[problem.real.y == label], made.x[made.y == label]
        torch.testing.assert_close(drawn.mean(0), real.mean(0), atol=0.05, rtol=0)
    within = problem.real.x - torch.stack([problem.real.x[problem.real.y == k].mean(0) for k in problem.real.y])
    spread = made.x - torch.stack([made.x[made.y == k].mean(0) for k in range(10)])[made.y]
    assert float(spread.square().sum(1).mean() / within.square().sum(1).mean()) == pytest.approx(3.0, rel=0.05)


def test_noisy_copies_have_the_labels_of_the_teacher(problem):
    data = problem.jittered(30)
    answers = problem.answers(problem.teacher, data.x).detach()
    torch.testing.assert_close(data.y, answers.argmax(1) if problem.classes else answers)


def test_students_know_a_part_of_the_teachers_records():
    train, real, test = diabetes_rows(0, TINY)
    assert (len(train), len(real), len(test)) == (300, 60, 142)
    torch.testing.assert_close(train.x.mean(0), torch.zeros(10), atol=1e-5, rtol=0)
    assert torch.equal(real.x, train.x[:60])


def test_a_small_cell_has_every_arm_and_repeats():
    cell = EXPERIMENT.run(0, TINY)
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(0, replace(TINY)) == cell
    assert cell["relabeled, not filtered"]["label agreement"] == 1.0


def test_configurations_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="kept_share"):
        CGANKDRecipe(kept_share=1.5)
    with pytest.raises(ConfigError, match="inflation"):
        CGANKDRecipe(inflation=0.0)
