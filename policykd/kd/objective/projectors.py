"""Projectors: small trainable maps that bring a student feature to a teacher's shape (or the other way round).

They are explicit parts of a term, never inserted silently. A width that is left out is inferred from the tapped
features when the objective is built; a width that is given is checked. Shapes are written without the batch. Features
of three axes are read as 1-D maps ``(B, C, L)``; for tokens ``(B, T, D)`` there are ``TokenLinear``, and ``Tokens``,
which makes them maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from policykd.errors import ConfigError

Shape = tuple[int, ...]


class ProjectorError(ConfigError):
    """A projector does not fit the feature it is given, or was used before its widths were known."""


class Projector(nn.Module):
    """Base of all projectors: a module whose layers may be created late, once both feature shapes are known.

    Subclasses implement ``_build`` (create layers) and ``output_shape``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.built = False

    def build(self, own: Shape, target: Shape) -> Shape:
        """Create or check the layers.

        Args:
            own: Shape of the feature that goes in, without the batch: ``(C,)``, ``(C, L)`` or ``(C, H, W)``.
            target: Shape of the other side's feature, from which missing widths are inferred.

        Returns:
            The shape that comes out.

        Raises:
            ProjectorError: The feature has the wrong number of dimensions or another width than was given.
        """
        if not self.built:
            self._build(own, target)
            self.built = True
        return self.output_shape(own)

    def output_shape(self, own: Shape) -> Shape:
        """The shape that comes out for the shape that goes in (both without the batch)."""
        raise NotImplementedError

    def _build(self, own: Shape, target: Shape) -> None:
        """Create the layers; the default has none."""

    def _check_width(self, own: Shape, width: int | None, dims: Sequence[int]) -> None:
        name = type(self).__name__
        if len(own) not in dims:
            wanted = " or ".join("(B, C" + ", ..." * (d > 1) + ")" for d in sorted(dims)[:2])
            raise ProjectorError(
                f"{name} takes features {wanted}, but got (B, {', '.join(map(str, own))}): {_fix(len(own))}"
            )
        if width is not None and own[0] != width:
            raise ProjectorError(f"{name} was made for width {width}, but the feature has width {own[0]}")

    def _require_built(self) -> None:
        if not self.built:
            raise ProjectorError(
                f"{type(self).__name__} does not know its widths yet: give them, or call "
                "objective.build(student, teacher, x) before you make the optimizer"
            )


def _fix(axes: int) -> str:
    if axes == 2:
        return (
            "if these are tokens (B, T, D), use TokenLinear(), or put Tokens() before it; if they are a 1-D map "
            "(B, C, L), put Pool(1) before it or use Conv1x1"
        )
    return "put Pool(1) before it or use Conv1x1" if axes > 1 else "use Linear or MLP"


class Identity(Projector):
    """Passes the feature on."""

    def __init__(self) -> None:
        super().__init__()
        self.built = True

    def output_shape(self, own: Shape) -> Shape:
        """The same shape."""
        return own

    def forward(self, feature: Tensor) -> Tensor:
        """Return the feature itself."""
        return feature


class Places(Projector):
    """Turns maps into a sequence of their places, ``(B, C, H, W) -> (B, H W, C)``, for losses on parts of a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.built = True

    def output_shape(self, own: Shape) -> Shape:
        """Return the number of places and of channels."""
        channels, *sizes = own
        return prod(sizes), channels

    def forward(self, feature: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, H W, C)``."""
        return feature.flatten(2).transpose(1, 2)


class Tokens(Projector):
    """Turns tokens into a 1-D map, ``(B, T, D) -> (B, D, T)``, for projectors and losses on maps."""

    def __init__(self) -> None:
        super().__init__()
        self.built = True

    def output_shape(self, own: Shape) -> Shape:
        """Return width and number of tokens.

        Raises:
            ProjectorError: The feature has another number of axes.
        """
        if len(own) != 2:
            raise ProjectorError(f"Tokens takes features (B, T, D), but got (B, {', '.join(map(str, own))})")
        return own[1], own[0]

    def forward(self, feature: Tensor) -> Tensor:
        """Map ``(B, T, D)`` to ``(B, D, T)``."""
        return feature.transpose(1, 2)


class _VectorProjector(Projector):
    """Base of projectors of vectors, whose layers are made once both widths are known."""

    def __init__(self, in_width: int | None, out_width: int | None) -> None:
        super().__init__()
        self.in_width, self.out_width = in_width, out_width

    def _layers(self, in_width: int, out_width: int) -> nn.Module:
        raise NotImplementedError

    def _make(self, in_width: int | None, out_width: int | None) -> None:
        """Make the layers unless a width is still unknown."""
        if in_width is not None and out_width is not None:
            self.in_width, self.out_width, self.built = in_width, out_width, True
            self.map = self._layers(in_width, out_width)

    def _build(self, own: Shape, target: Shape) -> None:
        self._check_width(own, self.in_width, (1,))
        self._make(own[0], self.out_width or target[0])

    def output_shape(self, own: Shape) -> Shape:
        """``(C_out,)``."""
        self._check_width(own, self.in_width, (1,))
        return (cast(int, self.out_width),)

    def forward(self, feature: Tensor) -> Tensor:
        """Map ``(B, C_in)`` to ``(B, C_out)``."""
        self._require_built()
        return self.map(feature)


class Linear(_VectorProjector):
    """An affine map of vectors, ``(B, C_in) -> (B, C_out)``.

    Args:
        in_width: Width that goes in; inferred when None.
        out_width: Width that comes out; the other side's width when None.
        bias: Whether to add a bias.
    """

    def __init__(self, in_width: int | None = None, out_width: int | None = None, *, bias: bool = True) -> None:
        super().__init__(in_width, out_width)
        self.bias = bias
        self._make(in_width, out_width)

    def _layers(self, in_width: int, out_width: int) -> nn.Module:
        return nn.Linear(in_width, out_width, bias=self.bias)


class TokenLinear(Projector):
    """An affine map of every token, ``(B, T, D_in) -> (B, T, D_out)``.

    Args:
        in_width: Width that goes in; inferred when None.
        out_width: Width that comes out; the other side's last axis when None.
        bias: Whether to add a bias.
    """

    def __init__(self, in_width: int | None = None, out_width: int | None = None, *, bias: bool = True) -> None:
        super().__init__()
        self.in_width, self.out_width, self.bias = in_width, out_width, bias

    def _build(self, own: Shape, target: Shape) -> None:
        self._check(own)
        self.in_width, self.out_width = own[1], self.out_width or target[-1]
        self.map = nn.Linear(self.in_width, self.out_width, bias=self.bias)

    def _check(self, own: Shape) -> None:
        if len(own) != 2:
            raise ProjectorError(
                f"TokenLinear takes tokens (B, T, D), but got (B, {', '.join(map(str, own))}): "
                f"{'use Linear or MLP' if len(own) == 1 else 'use Conv1x1 for maps'}"
            )
        if self.in_width not in (None, own[1]):
            raise ProjectorError(f"TokenLinear was made for width {self.in_width}, but the tokens have width {own[1]}")

    def output_shape(self, own: Shape) -> Shape:
        """``(T, D_out)``."""
        self._check(own)
        return own[0], cast(int, self.out_width)

    def forward(self, feature: Tensor) -> Tensor:
        """Map ``(B, T, D_in)`` to ``(B, T, D_out)``."""
        self._require_built()
        return self.map(feature)


class MLP(_VectorProjector):
    """One hidden layer with ReLU, ``(B, C_in) -> (B, C_out)``.

    Args:
        hidden: Width of the hidden layer.
        in_width: Width that goes in; inferred when None.
        out_width: Width that comes out; the other side's width when None.
    """

    def __init__(self, hidden: int, in_width: int | None = None, out_width: int | None = None) -> None:
        super().__init__(in_width, out_width)
        if hidden < 1:
            raise ProjectorError(f"MLP needs a hidden width of at least 1, got {hidden}")
        self.hidden = hidden
        self._make(in_width, out_width)

    def _layers(self, in_width: int, out_width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(in_width, self.hidden), nn.ReLU(), nn.Linear(self.hidden, out_width))


class Conv1x1(Projector):
    """A convolution of kernel size 1 over maps, ``(B, C_in, ...) -> (B, C_out, ...)``, in one or two dimensions.

    Args:
        in_width: Channels that go in; inferred when None.
        out_width: Channels that come out; the other side's channels when None.
        norm: Follow the convolution (then without bias) by batch normalization, as the FitNet codes do.
    """

    def __init__(self, in_width: int | None = None, out_width: int | None = None, *, norm: bool = False) -> None:
        super().__init__()
        self.in_width, self.out_width, self.norm = in_width, out_width, norm

    def _build(self, own: Shape, target: Shape) -> None:
        self._check_width(own, self.in_width, (2, 3))
        self.in_width, self.out_width = own[0], self.out_width or target[0]
        two_d = len(own) == 3
        conv = (nn.Conv2d if two_d else nn.Conv1d)(self.in_width, self.out_width, 1, bias=not self.norm)
        norm = [(nn.BatchNorm2d if two_d else nn.BatchNorm1d)(self.out_width)] if self.norm else []
        self.map = nn.Sequential(conv, *norm)

    def output_shape(self, own: Shape) -> Shape:
        """``(C_out, ...)`` with the spatial size that went in."""
        self._check_width(own, self.in_width, (2, 3))
        return (cast(int, self.out_width), *own[1:])

    def forward(self, feature: Tensor) -> Tensor:
        """Map ``(B, C_in, ...)`` to ``(B, C_out, ...)``."""
        self._require_built()
        return self.map(feature)


class Pool(Projector):
    """Adaptive average pooling of feature maps.

    Args:
        size: Side of the pooled map; 1 gives a vector ``(B, C)``; None takes the other side's spatial size.
    """

    def __init__(self, size: int | None = None) -> None:
        super().__init__()
        self.size, self.built = size, size is not None
        self.spatial: Shape | None = None

    def _build(self, own: Shape, target: Shape) -> None:
        self._check_width(own, None, (2, 3))
        self.spatial = target[1:] or (1,) * (len(own) - 1)
        self.size = None if len(target) > 1 else 1

    def output_shape(self, own: Shape) -> Shape:
        """``(C,)`` for size 1, else ``(C, size, ...)``."""
        self._check_width(own, None, (2, 3))
        if self.size == 1:
            return own[:1]
        return own[:1] + (self.spatial or (cast(int, self.size),) * (len(own) - 1))

    def forward(self, feature: Tensor) -> Tensor:
        """Pool ``(B, C, ...)``; size 1 drops the spatial dimensions."""
        self._require_built()
        if self.size == 1:
            return feature.flatten(2).mean(2)
        spatial = self.spatial or (cast(int, self.size),) * (feature.dim() - 2)
        pool = F.adaptive_avg_pool2d if len(spatial) == 2 else F.adaptive_avg_pool1d
        return pool(feature, list(spatial) if len(spatial) == 2 else spatial[0])  # type: ignore[arg-type]


class Chain(Projector):
    """Projectors one after the other, for example ``Chain(Pool(1), Linear())``."""

    def __init__(self, *steps: Projector) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def build(self, own: Shape, target: Shape) -> Shape:
        """Build every step with the shape that the step before it gives."""
        for step in self.steps:
            own = cast(Projector, step).build(own, target)
        self.built = True
        return own

    def output_shape(self, own: Shape) -> Shape:
        """The shape after the last step."""
        for step in self.steps:
            own = cast(Projector, step).output_shape(own)
        return own

    def forward(self, feature: Tensor) -> Tensor:
        """Apply every step."""
        for step in self.steps:
            feature = step(feature)
        return feature
