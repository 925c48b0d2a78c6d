"""Every registered loss works as a term, and a batch in four parts gives the loss and gradient of the whole.

Each loss is placed where its record says, so a new loss is tested here without an edit.
"""

import copy
import pickle

import pytest
import torch

from policykd.kd.benchmark.placements import PlacementContext, placement_of
from policykd.kd.benchmark.settings import Setting, default_setting
from policykd.kd.networks import ResNet
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.taps import Taps
from policykd.kd.registry import LOSSES
from policykd.kd.tasks import Split, Task
from policykd.kd.training.batches import Batch
from policykd.kd.training.step import StepSetting, backward_step

STUDENT, TEACHER = (4, 4, 6, 8), (4, 6, 8, 10)
PLACED = [name for name in LOSSES if not placement_of(name).unavailable]


def placed(name, student, teacher, data, setting=None):
    """The loss's objective on these networks, by its record's placement and a setting, by default its own."""

    def features(tap, samples):
        with torch.no_grad(), Taps([tap]).attach(teacher) as seen:
            teacher(data.x[:samples])
            return seen.tensor(tap)

    task = Task("eight", data, data, data, 3, lambda: student, lambda: teacher)
    context = PlacementContext(task, student, teacher, features)
    return Objective(placement_of(name).place(LOSSES[name], context, setting or default_setting(name)))


def run(name, parts):
    torch.manual_seed(0)
    student = ResNet(8, STUDENT, classes=3).eval()  # eval: batch statistics would depend on the parts
    teacher = ResNet(8, TEACHER, classes=3).eval()
    x, y = torch.randn(8, 3, 8, 8), torch.arange(8) % 3
    objective = placed(name, student, teacher, Split(x, y))
    x, student, teacher = x.double(), student.double(), teacher.double()
    objective.double().build(student, teacher, x[:2]).double()
    batch, setting = Batch(x, y, torch.arange(8), (8,)), StepSetting(micro_batches=parts)
    out = backward_step(student, teacher, objective, batch, setting, number=0, step=0, total=1)
    return out.loss.detach(), [p.grad for p in (*student.parameters(), *objective.parameters())], objective


@pytest.mark.parametrize("name", PLACED)
def test_loss_gradient_and_memory_do_not_depend_on_the_parts(name):
    loss, grads, objective = run(name, 1)
    split_loss, split_grads, split_objective = run(name, 4)
    assert bool(torch.isfinite(loss))
    assert sum(float(g.abs().sum()) for g in grads if g is not None) > 0
    torch.testing.assert_close(split_loss, loss, rtol=1e-10, atol=1e-12)
    for whole, split in zip(grads, split_grads, strict=True):
        assert (split is None) == (whole is None)
        if whole is not None:
            torch.testing.assert_close(split, whole, rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(dict(split_objective.state_dict()), dict(objective.state_dict()))


def watched(losses):
    """Let the teacher's values of all losses require a gradient, and return the list that will hold them."""
    values = []

    def with_gradient(value):
        if isinstance(value, list):
            return [with_gradient(one) for one in value]
        values.append(value.detach().requires_grad_())
        return values[-1]

    for loss in losses:
        if "teacher" in loss.inputs:
            place = loss.inputs.index("teacher")
            loss.register_forward_pre_hook(
                lambda _, args, place=place: (*args[:place], with_gradient(args[place]), *args[place + 1 :])
            )
    return values


def two_steps(name, setting):
    """Return loss and gradients of two steps of gradient descent, in float64; none may reach the teacher's values."""
    torch.manual_seed(1)
    student, teacher = ResNet(8, STUDENT, classes=3), ResNet(8, TEACHER, classes=3).eval()
    x, y = torch.randn(8, 3, 8, 8), torch.arange(8) % 3
    objective = placed(name, student, teacher, Split(x, y), setting)
    x, student, teacher = x.double(), student.double(), teacher.double()
    objective.double().build(student, teacher, x[:2]).double()
    parameters = (*student.parameters(), *objective.parameters())
    found, optimizer, values = [], torch.optim.SGD(parameters, lr=1e-3), watched(objective.losses.values())
    for step, rows in enumerate((torch.arange(8), torch.tensor([6, 1, 4, 3, 0]))):
        optimizer.zero_grad()
        batch = Batch(x[rows], y[rows], rows, (len(rows),))
        out = backward_step(student, teacher, objective, batch, StepSetting(), number=step, step=step, total=4)
        sizes = [(float(p.grad.sum()), float(p.grad.abs().sum())) for p in parameters if p.grad is not None]
        found.append([float(out.loss.detach()), *(sum(size) for size in zip(*sizes, strict=True))])
        optimizer.step()
    assert all(value.grad is None for value in values)
    return found


TRAINED_FIRST = ("ft", "kta")
"""Losses with networks that are trained, in float32, before the first step."""

PRESETS = [(name, preset) for name in PLACED for preset in LOSSES[name].presets]


@pytest.mark.parametrize(("name", "preset"), PRESETS, ids=[f"{name}-{preset.name}" for name, preset in PRESETS])
def test_loss_and_gradients_of_two_steps_are_the_recorded_ones(name, preset, recorded, limits):
    setting = Setting(preset.weight, preset.ce_weight, preset.kd_weight, preset.options)
    values = {"steps": two_steps(name, setting), "limits": limits}
    recorded("losses", f"{name}, {preset.name}", values, relative=0.05 if name in TRAINED_FIRST else 1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_copies_and_pickles_are_the_same_loss(name):
    torch.manual_seed(0)
    networks = (ResNet(8, STUDENT, classes=3).eval(), ResNet(8, TEACHER, classes=3).eval())
    data = Split(torch.randn(8, 3, 8, 8), torch.arange(8) % 3)
    for loss in placed(name, *networks, data).losses.values() if name in PLACED else [LOSSES[name].build()]:
        for copied in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
            assert type(copied) is type(loss) is LOSSES[name].load()
            assert repr(copied) == repr(loss)
            torch.testing.assert_close(copied.state_dict(), loss.state_dict(), rtol=0, atol=0, equal_nan=True)
