"""Ranges of settings: both bounds are allowed, the next numbers outside are refused by name and range."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from policykd.agents.architecture import Architecture, Encoder, Memory
from policykd.agents.training import TrainConfig
from policykd.agents.training.algorithms.ppo import PpoConfig
from policykd.agents.training.algorithms.sac import SacConfig
from policykd.curriculum.recipe import Injection, Measurement, SkillPlan
from policykd.errors import ConfigError
from policykd.kd.benchmark.config import BenchConfig
from policykd.kd.data import series_augmentations as series
from policykd.kd.ensembles import EvolutionConfig
from policykd.kd.experiments.power import smallest_effect
from policykd.kd.experiments.system import Fit
from policykd.kd.expert_selection import unlocked
from policykd.kd.log_mel import LogMel
from policykd.kd.losses.balanced_kl import Balance, Soft
from policykd.kd.training.averaging import Averaging
from policykd.kd.training.mixing import Mixup
from policykd.merge import MergeConfig

MANY = 1_000_000
LARGEST = 10**12
Limits = tuple[Callable[..., Any], dict[str, Any], list[tuple[str, float, float]]]

TABLES: dict[str, Limits] = {
    "ppo": (PpoConfig, {"minibatch": 1}, [
        ("envs", 1, MANY), ("rollout_steps", 1, MANY), ("epochs", 1, MANY), ("gamma", 0.0, 0.99999),
        ("gae_lambda", 0.0, 1.0), ("learning_rate", 1e-8, 1.0), ("critic_rate", 1e-8, 1.0), ("final_std", 1e-4, 10.0),
        ("target_kl", 1e-6, 10.0), ("final_target_kl", 1e-6, 10.0),
    ]),
    "ppo minibatch": (PpoConfig, {"envs": MANY, "rollout_steps": 1}, [("minibatch", 1, MANY)]),
    "sac": (SacConfig, {}, [
        *((name, 1, 100_000_000) for name in ("envs", "buffer_size", "minibatch", "gradient_steps")),
        ("gamma", 0.0, 0.99999), ("tau", 1e-6, 1.0), ("learning_rate", 1e-8, 1.0),
    ]),
    "training": (TrainConfig, {}, [
        ("steps", 1, LARGEST), ("seed", 0, 2**63 - 1), ("target_success", 0.0, 2.0), ("start_level", 0.01, 1.0),
        ("init_noise", 1e-3, 10.0), ("review_steps", 1, 10**9), ("averaging_steps", 0, LARGEST), ("patience", 1, 1000),
        ("segment_steps", 1, 10**9), ("validation_episodes", 1, 100_000), ("finalists", 1, 100),
    ]),
    "architecture": (Architecture, {}, [("initial_std", 1e-4, 10.0), ("mean_clip", 1e-3, 1e6)]),
    "encoder": (Encoder, {"group": "terrain"}, [("dense", 1, MANY)]),
    "lstm": (Memory, {"kind": "lstm"}, [("hidden", 1, MANY)]),
    "time feature": (Memory, {"kind": "time-feature"}, [("hidden", 1, MANY)]),
    "frame stack": (Memory, {"kind": "frame-stack"}, [("hidden", 2, 1000)]),
    "first frame stack": (Memory, {"kind": "frame-stack-first"}, [("hidden", 2, 1000)]),
    "merge": (MergeConfig, {}, [
        *((name, 1, MANY) for name in ("rounds", "envs", "updates", "minibatch", "validation_episodes",
                                       "validation_every")),
        *((name, 0.0, 1.0) for name in ("jsd_beta", "gae_lambda", "min_teacher_success")),
        ("noise", 0.0, 2.0), ("adaptive", 0.0, 0.9), ("gap_memory", 0.0, 0.99), ("held_out", 0.01, 0.5),
        ("support", 0.5, 10.0), ("learning_rate", 1e-8, 1.0), ("averaging", 0.0, 0.99999), ("gamma", 0.0, 0.99999),
        ("target_retention", 0.0, 2.0), ("seed", 0, 2**63),
    ]),
    "merge min_std": (MergeConfig, {"max_std": 10.0}, [("min_std", 1e-4, 10.0)]),
    "merge max_std": (MergeConfig, {"min_std": 0.25}, [("max_std", 0.25, 10.0)]),
    "skill plan": (SkillPlan, {"skill": "biped/flat"}, [
        ("steps", 1, LARGEST), ("target_success", 0.0, 2.0), ("start_level", 0.01, 1.0),
    ]),
    "injection": (Injection, {}, [("blind", 0, 1000), ("scale", 0.0, 1.0)]),
    "measurement": (Measurement, {}, [("episodes", 1, 100_000), ("seed", 0, 2**63 - 1)]),
    "jitter": (series.Jitter, {}, [("deviation", 0.0, 1e6)]),
    "scaling": (series.Scaling, {}, [("deviation", 0.0, 1e6)]),
    "rotation": (series.Rotation, {}, [("angle", 0.0, 180.0)]),
    "permutation": (series.Permutation, {}, [("pieces", 2, 10_000)]),
    "time warp": (series.TimeWarp, {}, [("deviation", 0.0, 5.0), ("knots", 0, 10_000)]),
    "magnitude warp": (series.MagnitudeWarp, {}, [("deviation", 0.0, 1e6), ("knots", 0, 10_000)]),
    "window slice": (series.WindowSlice, {}, [("share", 1e-3, 1.0)]),
    "channel drop": (series.ChannelDrop, {}, [("share", 0.0, 0.999)]),
    "sign flip": (series.SignFlip, {}, [("share", 0.0, 1.0)]),
    "mixup": (Mixup, {}, [("beta", 1e-6, 1e6), ("fraction", 0.0, 1.0)]),
    "averaging": (Averaging, {}, [("start", 0, MANY)]),
    "evolution": (EvolutionConfig, {}, [("population", 5, 10_000), ("recombination", 0, 1), ("generations", 1, MANY)]),
    "balance": (Balance, {}, [("delta", 1.0, 1e6)]),
    "soft balance": (Soft, {}, [("tau", 1e-9, 1e9)]),
    "fit": (Fit, {"hidden": (4,), "epochs": 1}, [("batch_size", 1, MANY), ("lr", 1e-9, 1e3)]),
    "log-mel": (LogMel, {"rate": 1000.0, "mels": 1}, [("floor", 1e-30, 1.0), ("hop", 1e-3, 60.0)]),
    "power": (smallest_effect, {"spread": 1.0, "seeds": 5}, [("comparisons", 1, MANY), ("power", 0.5, 0.999)]),
    "power seeds": (smallest_effect, {"spread": 1.0}, [("seeds", 2, MANY)]),
    "unlocked": (unlocked, {"epoch": 1, "experts": 2, "curriculum_epochs": 4}, [
        ("epoch", 0, math.inf), ("experts", 1, math.inf), ("curriculum_epochs", 0, math.inf),
    ]),
    "benchmark": (BenchConfig, {"task": "digits", "methods": ("ce", "kd")}, [("tune", 1, 15)]),
}  # fmt: skip


def outside(low: float, high: float, *, whole: bool) -> list[float]:
    """Return the next numbers below and above a range; integers where the values are."""
    below = low - 1 if whole else float(np.nextafter(low, -math.inf))
    above = high + 1 if whole else float(np.nextafter(high, math.inf))
    return [below] if math.isinf(high) else [below, above]


CASES = [(table, *row) for table, (_, _, rows) in TABLES.items() for row in rows]


@pytest.mark.parametrize(("table", "field", "low", "high"), CASES)
def test_bounds_are_allowed_and_the_next_numbers_are_not(table, field, low, high):
    make, given, _ = TABLES[table]
    for value in (low, high):
        if not math.isinf(value):
            make(**{**given, field: value})
    for value in outside(low, high, whole=isinstance(low, int) and isinstance(high, int | float) and high != 1.0):
        with pytest.raises(ConfigError, match=field) as caught:
            make(**{**given, field: value})
        assert f"it must be in [{low}, {high}]" in str(caught.value)


def test_optional_settings_may_be_absent():
    assert TrainConfig().start_level is None
    assert TrainConfig().init_noise is None
    assert MergeConfig(support=None).support is None
    assert SkillPlan("biped/flat").start_level is None
    assert Architecture().mean_clip is None


@pytest.mark.parametrize(
    ("field", "value", "limits"),
    [("highest", 520.5, "[21.0, 520.0]"), ("highest", 20.9, "[21.0, 520.0]"), ("mels", 0, "[1, 10000]"),
     ("mels", 10_001, "[1, 10000]"), ("window", 1e-3, f"[{2 / 1040.0}, 60.0]"), ("window", 60.1, ", 60.0]")],
)  # fmt: skip
def test_filters_lie_within_what_a_sample_rate_holds(field, value, limits):
    with pytest.raises(ConfigError, match=f"{field} is {value}") as caught:
        LogMel(1040.0, **{field: value})
    assert limits in str(caught.value)


@pytest.mark.parametrize("field", ["channels", "kernel", "stride"])
def test_every_number_of_an_encoder_is_in_its_range(field):
    for value in (1, 1024):
        Encoder("terrain", **{"channels": (4, 4), "kernel": (2, 2), "stride": (1, 1), field: (1, value)})
    for value in (0, 1025):
        with pytest.raises(ConfigError, match=rf"encoder\.{field} is {value}; it must be in \[1, 1024\]"):
            Encoder("terrain", **{"channels": (4, 4), "kernel": (2, 2), "stride": (1, 1), field: (1, value)})


def test_numbers_of_layers_and_widths():
    for field in ("hidden", "critic_hidden"):
        for widths in ((1,), (MANY,), (1,) * 64):
            assert getattr(Architecture(**{field: widths}), field) == widths
        for widths, message in (((0,), f"every width must be in .1, {MANY}."), ((4, MANY + 1), "every width"),
                                ((1,) * 65, "has 65 layers; at most 64")):  # fmt: skip
            with pytest.raises(ConfigError, match=f"{field} .*{message}"):
                Architecture(**{field: widths})
    sixteen = dict.fromkeys(("channels", "kernel", "stride"), (1,) * 16)
    assert len(Encoder("terrain", **sixteen).channels) == 16
    with pytest.raises(ConfigError, match="one entry per convolution, at most 16"):
        Encoder("terrain", **dict.fromkeys(sixteen, (1,) * 17))
    for field in sixteen:
        with pytest.raises(ConfigError, match="one entry per convolution"):
            Encoder("terrain", **{**sixteen, field: (1,) * 15})


def test_a_training_for_a_number_of_epochs_or_of_steps():
    assert Fit((4,), epochs=1).steps == 0
    assert Fit((4,), steps=1).epochs == 0
    for epochs, steps in ((0, 0), (1, 1)):
        with pytest.raises(ConfigError, match=f"epochs is {epochs} and steps is {steps}; exactly one"):
            Fit((4,), epochs=epochs, steps=steps)
    for width in (1, 100_000):
        assert Fit((8, width), epochs=1).hidden[1] == width
    for width in (0, 100_001):
        with pytest.raises(ConfigError, match=rf"hidden is {width}; it must be in \[1, 100000\]"):
            Fit((8, width), epochs=1)


def test_a_benchmark_has_at_least_two_seeds():
    for seeds in (2, 10_000):
        assert BenchConfig("digits", ("ce",), seeds=seeds).seeds == seeds
    for seeds, message in ((1, "fewer than two show no spread"), (10_001, r"it must be in \[2, 10000\]")):
        with pytest.raises(ConfigError, match=f"seeds is {seeds}.* {message}"):
            BenchConfig("digits", ("ce",), seeds=seeds)


@pytest.mark.parametrize(("experts", "epochs"), [(3, 9), (4, 10), (1, 5), (5, 0)])
def test_experts_are_unlocked_by_the_pacing(experts, epochs):
    for epoch in np.arange(0, 14, 0.5):
        expected = experts if epochs == 0 else min(experts, 1 + math.floor(experts * epoch / epochs))
        assert unlocked(epoch, experts=experts, curriculum_epochs=epochs) == expected
