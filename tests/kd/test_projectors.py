"""Projectors infer or check widths and say what does not fit."""

import pytest
import torch
from torch import nn

from policykd.kd.objective.projectors import (
    MLP,
    Chain,
    Conv1x1,
    Identity,
    Linear,
    Places,
    Pool,
    Projector,
    ProjectorError,
    TokenLinear,
    Tokens,
)

CASES = [
    (Identity(), (5,), (9,), (5,)),
    (Places(), (5, 3, 2), (9, 3, 2), (6, 5)),
    (Linear(), (5,), (9,), (9,)),
    (Linear(5, 7), (5,), (9,), (7,)),
    (MLP(11), (5,), (9,), (9,)),
    (Conv1x1(), (5, 8, 8), (9, 4, 4), (9, 8, 8)),
    (Conv1x1(norm=True), (5, 12), (9, 6), (9, 12)),
    (Pool(), (5, 8, 8), (9, 4, 4), (5, 4, 4)),
    (Pool(), (5, 12), (9, 3), (5, 3)),
    (Pool(), (5, 8, 8), (9,), (5,)),
    (Pool(2), (5, 8, 8), (9, 4, 4), (5, 2, 2)),
    (Pool(2), (5, 12), (9, 4), (5, 2)),
    (Pool(1), (5, 12), (9,), (5,)),
    (Tokens(), (6, 5), (9, 4), (5, 6)),
    (TokenLinear(), (6, 5), (6, 9), (6, 9)),
    (TokenLinear(5, 7, bias=False), (6, 5), (6, 9), (6, 7)),
    (Linear(bias=False), (5,), (9,), (9,)),
    (Conv1x1(5, 7), (5, 8, 8), (9, 4, 4), (7, 8, 8)),
    (Conv1x1(norm=True), (5, 4, 3), (9, 4, 3), (9, 4, 3)),
    (Chain(Pool(), Conv1x1()), (5, 8, 8), (9, 4, 4), (9, 4, 4)),
    (Chain(Pool(1), Linear()), (5, 8, 8), (9,), (9,)),
]


@pytest.mark.parametrize(
    ("projector", "own", "target", "expected"), CASES, ids=lambda c: getattr(c, "__class__", c).__name__
)
def test_built_shape_is_the_shape_that_comes_out(projector, own, target, expected, recorded):
    assert projector.build(own, target) == expected
    weights = list(projector.parameters())
    with torch.no_grad():
        for value in weights:
            value.copy_(torch.linspace(-1.0, 1.5, value.numel()).view_as(value))
    found = projector(torch.randn(3, *own, generator=torch.Generator().manual_seed(0)))
    assert found.shape == (3, *expected)
    recorded("projectors", f"{type(projector).__name__} {own} {target} {expected}, {len(weights)} tensors", found)


def test_places_are_rows_of_channels():
    maps = torch.arange(24.0).reshape(2, 3, 2, 2)
    assert torch.equal(Places()(maps)[1, 2], maps[1, :, 1, 0])


def test_pooling_to_one_is_the_mean_over_space():
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(Pool(1)(x), x.mean((2, 3)))


def test_trainable_parameters_exist_after_building_and_are_not_rebuilt():
    projector = Linear()
    assert list(projector.parameters()) == []
    projector.build((4,), (6,))
    weight = projector.map.weight
    projector.build((4,), (6,))
    assert projector.map.weight is weight
    assert weight.shape == (6, 4)


@pytest.mark.parametrize(
    ("projector", "own", "message"),
    [
        (Linear(in_width=8), (5,), "made for width 8, but the feature has width 5"),
        (Linear(), (5, 4, 4), r"takes features \(B, C\), but got \(B, 5, 4, 4\): put Pool\(1\)"),
        (Conv1x1(), (5,), r"Conv1x1 takes features .* use Linear or MLP"),
        (Pool(), (5,), "Pool takes features"),
        (Linear(), (5, 4), r"tokens \(B, T, D\), use TokenLinear"),
        (Tokens(), (5, 4, 4), r"Tokens takes features \(B, T, D\)"),
        (TokenLinear(), (5,), "use Linear or MLP"),
        (TokenLinear(), (5, 4, 4), "use Conv1x1 for maps"),
        (TokenLinear(in_width=3), (5, 4), "made for width 3, but the tokens have width 4"),
        (Conv1x1(in_width=3), (5, 4), "made for width 3"),
    ],
)
def test_features_that_do_not_fit_are_refused(projector: Projector, own, message, recorded):
    with pytest.raises(ProjectorError, match=message) as refused:
        projector.build(own, (9,) * len(own))
    recorded("messages", f"{type(projector).__name__} of {own}", str(refused.value))


@pytest.mark.parametrize(
    "projector", [Linear(), TokenLinear(), MLP(3), Conv1x1(), Pool()], ids=lambda p: type(p).__name__
)
def test_an_unbuilt_projector_says_how_to_build_it(projector):
    with pytest.raises(
        ProjectorError, match=r"call objective.build\(student, teacher, x\) before you make the optimizer"
    ):
        nn.Sequential(projector)(torch.zeros(2, 3, 4))
