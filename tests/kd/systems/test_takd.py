"""Teacher assistants: paths, what a network of a path leaves alone, and the identities between paths."""

from dataclasses import replace

import pytest
import torch

from policykd.cli.main import main
from policykd.errors import ConfigError
from policykd.kd import functional as kf
from policykd.kd.experiments.system import Fit
from policykd.kd.systems.takd import EXPERIMENT, TAKDCell, TAKDRecipe, train_path
from policykd.kd.training.evaluate import predict
from policykd.kd.training.loop import distil, train_classifier

TINY = TAKDRecipe(
    teacher=Fit((9,), epochs=1, batch_size=128),
    assistant=Fit((7,), epochs=1, batch_size=128),
    student=Fit((5,), epochs=1, batch_size=128),
)


def same(first, second):
    return all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


@pytest.fixture(scope="module")
def cell():
    return TAKDCell(0, TINY)


@pytest.fixture(scope="module")
def teacher(cell):
    return cell.distilled(None, "teacher")


def test_the_loss_of_a_network_of_a_path_has_the_worked_value():
    z, v = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[2.0, 1.0, 4.0]])
    soft = float(kf.kd(z, v, temperature=4.0))
    assert soft == pytest.approx(0.382250, abs=1e-6)
    assert float(kf.kd(z, v, temperature=4.0, variant="element_mean")) == pytest.approx(0.127417, abs=1e-6)
    hard = float(torch.nn.functional.cross_entropy(z, torch.tensor([2])))
    assert 0.1 * hard + 0.9 * soft == pytest.approx(0.384786, abs=1e-6)


def test_a_path_of_one_is_training_without_a_teacher(cell):
    [alone] = train_path(["student"], cell.distilled)
    config = TINY.student.config(len(cell.train), cell.order(("order", "student")))
    assert same(alone, train_classifier(cell.network("student", TINY.student), cell.train, config))


def test_a_path_of_two_is_ordinary_distillation(cell):
    teacher, student = train_path(["teacher", "student"], cell.distilled)
    config = TINY.student.config(len(cell.train), cell.order(("order", "student")))
    weights = {"temperature": 4.0, "kd_weight": 0.9, "ce_weight": 0.1}
    logits, _ = predict(teacher, cell.train)
    assert same(student, distil(cell.network("student", TINY.student), logits, cell.train, config, **weights))


def test_an_assistant_that_copies_the_teacher_changes_nothing(cell, teacher):
    copy = cell.network("teacher", TINY.teacher)
    copy.load_state_dict(teacher.state_dict())
    assert same(cell.distilled(teacher, "student"), cell.distilled(copy.eval(), "student"))


def test_every_network_of_a_path_is_new_and_leaves_those_before_it_alone(cell):
    roles = ["teacher", "assistant", "student"]
    whole = train_path(roles, cell.distilled)
    for length in (1, 2):
        for before, after in zip(train_path(roles[:length], cell.distilled), whole, strict=False):
            assert same(before, after)
    assert all(not network.training for network in whole)
    assert len({id(p) for network in whole for p in network.parameters()}) == 3 * 4


def test_temperature_and_weights_reach_the_student(teacher):
    changes = ({}, {"temperature": 1.0}, {"kd_weight": 0.5}, {"ce_weight": 0.5})
    students = [TAKDCell(0, replace(TINY, **change)).distilled(teacher, "student") for change in changes]
    assert not any(same(students[0], other) for other in students[1:])


def test_double_epochs_are_a_training_twice_as_long(cell, teacher):
    longer = TAKDCell(0, replace(TINY, student=replace(TINY.student, epochs=2)))
    twice = cell.distilled(teacher, "student", times=2)
    assert same(twice, longer.distilled(teacher, "student"))
    assert not same(twice, cell.distilled(teacher, "student"))


def test_a_path_without_a_network_to_train_is_refused():
    with pytest.raises(ConfigError, match="at least one network"):
        train_path([], lambda teacher, size: size)


def test_a_small_cell_has_every_arm_and_repeats():
    found = EXPERIMENT.run(0, TINY)
    EXPERIMENT.check_cell(found)
    assert EXPERIMENT.run(0, TINY) == found
    assert "kl_to_source" not in found["student, no teacher"]


def test_without_the_divergence_all_students_are_one():
    """Pairing: at kd_weight 0 every arm of the student is the same network, trained on the same batches."""
    found = EXPERIMENT.run(1, replace(TINY, kd_weight=0.0, ce_weight=1.0))
    arms = ("student, no teacher", "student, direct", "student, assistant", "student, assistant without teacher")
    assert len({found[arm]["accuracy"] for arm in arms}) == 1
    assert found["assistant"]["accuracy"] == found["assistant, no teacher"]["accuracy"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("student.epochs=0", "epochs is 0"),
        ("teacher.lr=-1", "lr is -1"),
        ("shares=[0.5, 0.4]", "the shares of all splits must sum to 1"),
    ],
)
def test_a_training_that_cannot_run_is_refused_before_any_work(change, message, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["kd", "run", "takd", "--seeds", "1", "--workers", "1", "--set", change, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error:")
    assert message in " ".join(error.split())
    assert not out.exists()
