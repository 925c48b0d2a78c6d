"""Decode pictures with Pillow: the header's size is checked before pixels are decoded.

It reads and changes arrays only; it knows nothing of networks or training.
"""

from __future__ import annotations

import io

import numpy as np

from policykd.errors import MissingDependencyError
from policykd.kd.data.files import DataFileError

_FORMATS = ("JPEG", "PNG", "BMP")


def decode_picture(content: bytes, name: str, *, limit: int = 4_000_000) -> np.ndarray:
    """Decode a JPEG, PNG or BMP picture.

    Args:
        content: The file.
        name: Its name, for messages.
        limit: Most pixels that it may have.

    Returns:
        Bytes ``(3, H, W)``.

    Raises:
        MissingDependencyError: Pillow is not installed.
        DataFileError: The picture is damaged, of another format, or too large.
    """
    try:
        from PIL import Image
    except ImportError:
        raise MissingDependencyError("pictures need Pillow: pip install 'policykd[data]'") from None
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
            width, height = picture.size
            if width * height > limit:
                raise DataFileError(f"{name} has {width} x {height} pixels, expected at most {limit} in all")
            pixels = np.asarray(picture.convert("RGB"), dtype=np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, DataFileError):
            raise
        raise DataFileError(f"{name} ({len(content)} bytes) is not a complete JPEG, PNG or BMP: {error}") from None
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
