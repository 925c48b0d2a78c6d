"""The log-mel front end equals an independent one: scipy's Fourier transform and filters by loops."""

import math

import numpy as np
import pytest
import scipy.signal
import torch

from policykd.errors import ConfigError
from policykd.kd.log_mel import LogMel, from_mel, mel


def reference(sound, rate, mels, size, hop, lowest, highest, floor):
    """Frames by scipy.signal, triangles by a loop over every frequency."""
    window = scipy.signal.get_window("hann", size, fftbins=True)
    frames = [sound[k * hop : k * hop + size] for k in range(1 + (len(sound) - size) // hop)]
    power = np.array([np.abs(np.fft.rfft(frame * window)) ** 2 for frame in frames])

    def to_mel(f):
        return 2595 * math.log10(1 + f / 700)

    edges = [700 * (10 ** ((to_mel(lowest) + k * (to_mel(highest) - to_mel(lowest)) / (mels + 1)) / 2595) - 1)
             for k in range(mels + 2)]  # fmt: skip
    out = np.zeros((mels, len(frames)))
    for m in range(mels):
        left, middle, right = edges[m : m + 3]
        for t in range(len(frames)):
            energy = 0.0
            for k in range(size // 2 + 1):
                f = k * rate / size
                if left <= f <= middle:
                    energy += power[t, k] * (f - left) / (middle - left)
                elif middle < f <= right:
                    energy += power[t, k] * (right - f) / (right - middle)
            out[m, t] = math.log(max(energy, floor))
    return out


@pytest.mark.parametrize(("rate", "mels", "window", "hop"), [(8000, 12, 0.032, 0.016), (4000, 20, 0.064, 0.01)])
def test_equals_the_reference(rate, mels, window, hop):
    sound = np.random.default_rng(0).standard_normal((2, rate // 4)) * 0.1
    front_end = LogMel(rate, mels=mels, window=window, hop=hop, lowest=50.0, highest=rate / 2.5).double()
    got = front_end(torch.from_numpy(sound))
    expected = [
        reference(one, rate, mels, round(window * rate), round(hop * rate), 50.0, rate / 2.5, 1e-8) for one in sound
    ]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert got.shape == (2, mels, front_end.frames(sound.shape[1]))


def test_power_equals_scipys_spectrogram():
    sound = np.random.default_rng(1).standard_normal(2048)
    front_end = LogMel(8000, mels=4, window=0.032, hop=0.016).double()
    _, _, power = scipy.signal.spectrogram(
        sound, 8000, ("hann"), 256, 128, mode="magnitude", scaling="spectrum", detrend=False
    )
    gain = float(front_end.weight.sum())
    pieces = torch.from_numpy(sound).unfold(0, 256, 128) * front_end.weight
    np.testing.assert_allclose((torch.fft.rfft(pieces).abs() / gain).T, power, rtol=1e-4, atol=1e-8)


def test_a_tone_is_in_the_band_of_its_frequency():
    front_end = LogMel(8000, mels=30)
    centers = from_mel(torch.linspace(float(mel(20.0)), float(mel(4000.0)), 32, dtype=torch.float64))[1:-1]
    for frequency in (300.0, 1000.0, 2500.0):
        tone = torch.sin(2 * math.pi * frequency * torch.arange(4000) / 8000)[None]
        loudest = int(front_end(tone)[0].mean(1).argmax())
        assert abs(float(centers[loudest]) - frequency) < 0.15 * frequency + 60


def test_silence_is_finite_and_gradients_flow():
    front_end = LogMel(8000)
    assert torch.equal(front_end(torch.zeros(1, 1000)), torch.full((1, 40, 6), math.log(1e-8)))
    sound = torch.randn(1, 600, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(LogMel(8000, mels=5).double(), sound, eps=1e-6, atol=1e-4)
    assert not front_end.state_dict()


def test_half_precision_and_autocast_run_in_float32():
    sound = torch.randn(1, 1000, generator=torch.Generator().manual_seed(0))
    exact = LogMel(8000)(sound)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(LogMel(8000)(sound), exact)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"highest": 5000.0}, "highest is 5000.0 Hz"),
        ({"hop": 0.0}, "hop is 0.0 s"),
        ({"mels": 0}, "mels is 0"),
        ({"mels": 200}, "cover no frequency"),
        ({"floor": 0.0}, "floor is 0.0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        LogMel(8000, **options)


def test_short_or_misshapen_sound_is_refused():
    for sound in (torch.zeros(1, 10), torch.zeros(1000)):
        with pytest.raises(ValueError, match="sound must be"):
            LogMel(8000)(sound)
