"""Cut long recordings into windows of equal length.

It reads and changes arrays only; it knows nothing of networks or training.
"""

from __future__ import annotations

import numpy as np

from policykd.kd.data.files import DataFileError


def cut_windows(recording: np.ndarray, length: int, stride: int) -> np.ndarray:
    """Cut a recording into windows; a rest that is shorter than a window is dropped.

    Args:
        recording: Array ``(T, C)``.
        length: Steps per window.
        stride: Steps between the beginnings of two windows.

    Returns:
        Windows ``(N, C, length)`` in float32.

    Raises:
        DataFileError: The recording is shorter than one window, or not ``(T, C)``.
    """
    if recording.ndim != 2 or len(recording) < length:
        raise DataFileError(f"a recording of shape {recording.shape} has no window of {length} steps")
    view = np.lib.stride_tricks.sliding_window_view(recording, length, axis=0)[::stride]
    return np.ascontiguousarray(view, dtype=np.float32)


def resample(series: np.ndarray, length: int) -> np.ndarray:
    """Return a series ``(C, T)`` at `length` equally spaced places from its first to its last step, interpolated."""
    places = np.linspace(0.0, series.shape[1] - 1.0, length)
    steps = np.arange(series.shape[1])
    return np.stack([np.interp(places, steps, channel) for channel in series]).astype(np.float32)
