"""Options: declared by annotations, checked at every call and when a module is built."""

import inspect
from typing import Annotated, Literal

import pytest
import torch
from torch import Tensor

from policykd.divergences import reduce_loss
from policykd.errors import ConfigError
from policykd.kd import losses
from policykd.kd.losses import KDLoss, loss_function, loss_module
from policykd.kd.losses.vid import vid
from policykd.kd.objective.loss_call import LossCall
from policykd.kd.options import ClosedFraction, HalfOpenFraction, OpenFraction, Positive, Rule, Temperature


def even(name, value):
    if value % 2:
        raise ConfigError(f"{name} must be even, got {value}")


@loss_function
def halves(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    *,
    count: Annotated[int, Rule(even)] = 2,
    kind: Literal["a", "b"] = "a",
    power: Positive = 1.0,
    reduction: Literal["none", "mean"] = "mean",
) -> Tensor:
    """Divide the gap by a number."""
    return reduce_loss((student - teacher - target[:, None]).sum(1) / count, reduction)


Halves = loss_module(halves, "Halves", signal="features", batch_coupled=True)
S, T, Y = torch.ones(2, 3), torch.zeros(2, 3), torch.tensor([0, 1])
BAD = [
    ({"count": 3}, "count must be even, got 3"),
    ({"kind": "c"}, "kind must be one of a, b, got 'c'"),
    ({"power": 0.0}, "power must be above 0, got 0.0"),
    ({"power": float("nan")}, "power must be above 0, got nan"),
    ({"reduction": "sum"}, "reduction must be one of none, mean, got 'sum'"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_a_bad_option_is_refused_at_the_call_and_when_built(options, message):
    with pytest.raises(ConfigError, match=message):
        halves(S, T, Y, **options)
    with pytest.raises(ConfigError, match=message):
        Halves(**options)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Temperature, (1e-3, 1e6), (0.0, -1.0, float("inf"), float("nan"))),
        (Positive, (1e-3, float("inf")), (0.0, float("nan"))),
        (OpenFraction, (0.1, 0.9), (0.0, 1.0, float("nan"))),
        (HalfOpenFraction, (0.0, 0.9), (-0.1, 1.0, float("nan"))),
        (ClosedFraction, (0.0, 1.0), (-0.1, 1.1, float("nan"))),
    ],
)
def test_ranges(kind, good, bad):
    (rule,) = kind.__metadata__
    for value in good:
        rule.check("x", value)
    for value in bad:
        with pytest.raises(ConfigError, match="x must"):
            rule.check("x", value)


def test_a_module_is_its_function_with_options_as_attributes():
    loss = Halves(count=4, reduction="none")
    assert isinstance(loss, KDLoss)
    assert (loss.name, loss.signal, loss.batch_coupled) == ("halves", "features", True)
    assert loss.inputs == ("student", "teacher", "target")
    assert repr(loss) == "Halves(reduction='none', count=4, kind='a', power=1.0)"
    assert torch.equal(loss(S, T, Y), halves(S, T, Y, count=4, reduction="none"))
    loss.count = 6
    assert torch.equal(loss(S, T, target=Y), halves(S, T, Y, count=6, reduction="none"))
    assert "Divide the gap" in Halves.__doc__
    assert list(inspect.signature(Halves).parameters) == ["count", "kind", "power", "reduction"]
    assert LossCall.of(loss) == LossCall(pair=True, target="target", required=frozenset({"target"}))


def test_a_misspelled_option_names_a_close_one():
    with pytest.raises(TypeError, match="KD has no option 'temperatur'; did you mean temperature"):
        losses.KD(temperatur=2.0)
    with pytest.raises(TypeError, match="positional"):
        losses.KD(2.0)


def test_a_list_is_kept_as_a_tuple():
    loss = losses.MLKD(temperatures=[2.0, 3.0])
    assert loss.temperatures == (2.0, 3.0)
    assert "temperatures=(2.0, 3.0)" in repr(loss)


def test_a_function_with_other_tensors_makes_no_module():
    with pytest.raises(TypeError, match=r"vid takes variance.* by position; loss_module allows student, teacher"):
        loss_module(vid)


def test_options_that_were_checked_at_the_call_only_are_checked_when_built():
    for build, message in (
        (lambda: losses.AT(power=0.0), "power must be above 0"),
        (lambda: losses.JSD(beta=1.5), r"beta must be in \[0, 1\], got 1.5"),
        (lambda: losses.SDD(cells=(2,)), "cells must begin with 1"),
        (lambda: losses.CATKD(pool_size=0), "pool_size must be at least 1, or None"),
        (lambda: losses.CC(order=0), "order must be above 0"),
        (lambda: losses.ReviewKD([3], [3], pools=(4, 0)), "pools must be positive sizes"),
        (lambda: losses.VID(2, 2, initial_variance=1e-6), "initial_variance must be above eps"),
    ):
        with pytest.raises(ConfigError, match=message):
            build()
