"""Rules of the KD half that whole runs do not show."""

import pytest
import torch

from policykd.errors import ConfigError
from policykd.kd.flatness import top_eigenvalue
from policykd.kd.losses.multi_teacher_kd import MultiTeacherKD, equal_weights
from policykd.kd.training.fields import Fields


def test_teachers_of_an_ensemble_get_no_gradient():
    student = torch.randn(4, 3, requires_grad=True)
    teachers = torch.randn(2, 4, 3, requires_grad=True)
    for loss in (MultiTeacherKD(), MultiTeacherKD(equal_weights)):
        loss(student, teachers, torch.tensor([0, 1, 2, 0])).backward()
    assert teachers.grad is None
    assert float(student.grad.abs().sum()) > 0


@pytest.mark.parametrize(
    ("fields", "item", "refused"),
    [
        (Fields(), (1.0, 2.0), False),
        (Fields(), (1.0, 2.0, 3.0), True),
        (Fields(inputs=0), (1.0, 2.0, 3.0), False),
        (Fields(targets=2), (1.0, 2.0, 3.0), False),
        (Fields(mask=2), (1.0, 2.0, 3.0), False),
        (Fields(weights=2), (1.0, 2.0, 3.0), False),
    ],
)
def test_a_tuple_of_three_needs_to_be_told_what_is_what(fields, item, refused):
    if refused:
        with pytest.raises(ConfigError, match="a batch has 3 entries: say which are what"):
            fields.read(item)
    else:
        assert fields.read(item).x == 1.0


def test_power_iteration_stops_at_the_relative_tolerance():
    """A large eigenvalue with a loose tolerance stops early, a tight one goes on."""
    matrix = torch.diag(torch.tensor([1000.0, 900.0], dtype=torch.float64))
    calls = []

    def product(vector):
        calls.append(1)
        return matrix @ vector

    start = torch.tensor([1.0, 3.0], dtype=torch.float64)
    loose, _ = top_eigenvalue(product, start, tolerance=1e-2)
    few = len(calls)
    calls.clear()
    tight, _ = top_eigenvalue(product, start, tolerance=1e-12)
    assert few <= 5 < len(calls)
    assert abs(tight - 1000.0) < 1e-6 < abs(loose - 1000.0) < 100.0
