"""Every registered loss works as a term, and a batch in four parts gives the loss and gradient of the whole."""

import pytest
import torch

from policykd.kd import losses
from policykd.kd.networks import ResNet
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.projectors import Conv1x1
from policykd.kd.objective.terms import Term
from policykd.kd.registry import methods
from policykd.kd.training.batches import Batch
from policykd.kd.training.step import StepSetting, backward_step

STUDENT, TEACHER = (4, 4, 6, 8), (4, 6, 8, 10)
CHANNELS = {"student_channels": STUDENT[1:], "teacher_channels": TEACHER[1:]}
LAST = {"student_channels": STUDENT[-1], "teacher_channels": TEACHER[-1]}
OPTIONS = {
    "ab": CHANNELS,
    "crd": {"n_data": 8, "student_dim": STUDENT[-1], "teacher_dim": TEACHER[-1], "dim": 4, "negatives": 3},
    "ft": LAST,
    "ickd": LAST,
    "ofd": CHANNELS,
    "reviewkd": {**CHANNELS, "pools": (2, 1)},
    "vid": LAST,
}
VECTORS = ("cc", "crd", "pkt", "rkd", "sp")
NEEDS_EQUAL_WIDTH = ("fitnet", "cc")


def term(name: str) -> Term:
    loss = getattr(losses, methods[name].loss)(**OPTIONS.get(name, {}))
    made = Term(loss)
    if loss.signal == "maps":
        return made.on("layer3>fc")
    if loss.signal == "levels":
        projectors = [Conv1x1(), Conv1x1(), Conv1x1()] if name == "fsp" else None
        return made.on(["layer1", "layer2", "layer3"], student_proj=projectors)
    if loss.signal == "features" and name in VECTORS:
        return made.on("layer3" if name in NEEDS_EQUAL_WIDTH else "pool", student_proj=projector(name))
    return made.on("layer3", student_proj=projector(name)) if loss.signal == "features" else made


def projector(name: str) -> Conv1x1 | None:
    return Conv1x1() if name in NEEDS_EQUAL_WIDTH else None


def run(name: str, parts: int):
    torch.manual_seed(0)
    student = ResNet(8, STUDENT, classes=3).double().eval()  # eval: batch statistics would depend on the parts
    teacher = ResNet(8, TEACHER, classes=3).double().eval()
    objective = Objective({name: term(name)}).double()
    x, y = torch.randn(8, 3, 8, 8, dtype=torch.float64), torch.arange(8) % 3
    objective.build(student, teacher, x[:2]).double()
    batch, setting = Batch(x, y, torch.arange(8), (8,)), StepSetting(micro_batches=parts)
    out = backward_step(student, teacher, objective, batch, setting, number=0, step=0, total=1)
    return out.loss.detach(), [p.grad for p in (*student.parameters(), *objective.parameters())], objective


@pytest.mark.parametrize("name", sorted(methods))
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
