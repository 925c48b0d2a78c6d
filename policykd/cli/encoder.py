"""``--encoder terrain:16x8,8x4,64``: a branch of an observation group from the command line."""

from __future__ import annotations

from typing import Annotated

import tyro

from policykd.agents.architecture import Encoder
from policykd.errors import ConfigError

EncoderText = Annotated[str | None, tyro.conf.arg(metavar="GROUP[:SIZES]")]
"""Type of an option that :func:`parse_encoder` reads."""


def parse_encoder(text: str) -> Encoder:
    """An encoder from ``GROUP[:SIZES][@JOIN]``, for example ``terrain:16x8,8x4/2,64@every``.

    Raises:
        ConfigError: for text of another form, or sizes out of range.
        UnknownNameError: for an unknown way to join.
    """
    group, colon, rest = text.partition(":")
    sizes, at, join = (rest if colon else group).partition("@")
    group, join = (group if colon else sizes), (join if at else "last")
    if not colon:
        return Encoder(group, join=join)
    *convolutions, dense = sizes.split(",")
    try:
        shapes = [_convolution(part) for part in convolutions]
        channels, kernel, stride = zip(*shapes, strict=True) if shapes else ((), (), ())
        return Encoder(group, channels, kernel, stride, int(dense), join)
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"--encoder {text}: write it as terrain or terrain:16x8,8x4,64") from None


def _convolution(text: str) -> tuple[int, int, int]:
    """Channels, width and stride of ``16x8`` or ``16x8/2``."""
    shape, _, stride = text.partition("/")
    channels, width = shape.split("x")
    return int(channels), int(width), int(stride or 1)
