"""Read WAV files and turn them into log-mel frames of equal number: what the speech and sound data sets share.

It reads and changes arrays only; it knows nothing of networks or training.
"""

from __future__ import annotations

import io
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from policykd.kd.data.files import DataFileError
from policykd.kd.data.samples import Samples
from policykd.kd.data.source import MEGABYTE, Source

_HIGHEST_RATE = 192_000


@dataclass(frozen=True)
class Frames:
    """How sound becomes log-mel frames.

    Attributes:
        seconds: Length of every sample; shorter ones are padded with silence, of longer ones the middle is kept.
        mels: Number of mel bands.
        window: Length of a frame in seconds.
        hop: Seconds between the beginnings of two frames.
    """

    seconds: float
    mels: int = 40
    window: float = 0.032
    hop: float = 0.016


def read_wav(content: bytes, name: str) -> tuple[np.ndarray, int]:
    """Read a mono WAV file of 16-bit samples.

    Returns:
        Samples in [-1, 1) as float32, and the rate in Hz.

    Raises:
        DataFileError: The file is damaged or of another kind.
    """
    try:
        with wave.open(io.BytesIO(content)) as file:
            channels, width, rate, count = (
                file.getnchannels(),
                file.getsampwidth(),
                file.getframerate(),
                file.getnframes(),
            )
            if (channels, width) != (1, 2) or not 1000 <= rate <= _HIGHEST_RATE:
                given = f"{channels} channels of {8 * width} bits at {rate} Hz"
                raise DataFileError(f"{name} must be mono with 16 bits at 1 to 192 kHz, got {given}; convert it first")
            raw = file.readframes(min(count, len(content)))
    except (wave.Error, EOFError, OSError, RuntimeError) as error:
        raise DataFileError(f"{name} ({len(content)} bytes) is not a complete WAV file: {error}") from None
    if not raw or len(raw) != 2 * count:
        raise DataFileError(f"{name} has {len(raw)} bytes of sound, its header says {2 * count}")
    return np.frombuffer(raw, "<i2").astype(np.float32) / 32768.0, rate


def fit_length(sound: np.ndarray, length: int) -> np.ndarray:
    """Keep the middle of a longer sound; pad a shorter one with silence on both sides."""
    gap = length - len(sound)
    if gap <= 0:
        start = -gap // 2
        return sound[start : start + length]
    return np.pad(sound, (gap // 2, gap - gap // 2))


def read_frames(source: Source, names: Sequence[str], frames: Frames) -> tuple[np.ndarray, float]:
    """Read WAV files of one rate into log-mel frames.

    Returns:
        Frames ``(N, mels, T)`` in float32 and their rate in Hz.

    Raises:
        DataFileError: A file is damaged, or the rates differ.
    """
    import torch

    from policykd.kd.log_mel import LogMel

    _, rate = read_wav(source.read(names[0], limit=16 * MEGABYTE), names[0])
    length = round(frames.seconds * rate)
    front_end = LogMel(rate, mels=frames.mels, window=frames.window, hop=frames.hop)
    rows = []
    for name in names:
        sound, own = read_wav(source.read(name, limit=16 * MEGABYTE), name)
        if own != rate:
            raise DataFileError(
                f"{source.root}: {name} has {own} Hz, {names[0]} has {rate} Hz; convert them to one rate"
            )
        rows.append(front_end(torch.from_numpy(fit_length(sound, length))[None])[0].numpy())
    return np.stack(rows), rate / front_end.hop


def sound_samples(
    source: Source,
    names: Sequence[str],
    frames: Frames,
    *,
    label: Callable[[str], str],
    group: Callable[[str], str],
    about: str,
) -> Samples:
    """Read WAV files whose names tell label and group; both are numbered in alphabetical order."""
    x, rate = read_frames(source, names, frames)
    classes, y = np.unique([label(name) for name in names], return_inverse=True)
    groups, index = np.unique([group(name) for name in names], return_inverse=True)
    return Samples(
        x,
        y.astype(np.int64),
        tuple(map(str, classes)),
        index.astype(np.int64),
        tuple(map(str, groups)),
        rate=rate,
        about=f"{about}: log-mel frames, {frames.mels} bands, {frames.seconds:g} s",
    )
