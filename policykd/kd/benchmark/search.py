"""Settings: each method's default, from its preset, and its small space of alternatives for ``--tune``.

Every space has the same size. Its first axis is the method's own, five values: label smoothing for cross-entropy,
weight and temperature for losses with a temperature, the weight for all others; its second axis, shared by all, is the
learning rate times 1, 1/2 or 2. Candidates are taken in that order, the method's own axis first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from policykd.errors import UnknownNameError, check_range
from policykd.kd.registry import methods

PUBLISHED_EPOCHS = 240
"""Epochs of the published runs that presets count their warm-up in (CIFAR-100)."""

FIRST_STAGE = 1 / 8
"""Share of the epochs of an initialization phase, for methods that train features first and the classifier after."""

PRESETS: Mapping[str, str] = MappingProxyType(
    {
        "ab": "repdistiller",
        "at": "repdistiller",
        "cat_kd": "authors",
        "cc": "repdistiller",
        "crd": "small_data",
        "dist": "authors",
        "dkd": "mdistiller",
        "fitnet": "repdistiller",
        "fsp": "repdistiller",
        "ft": "repdistiller",
        "ickd": "code",
        "jsd": "trl",
        "kd": "repdistiller",
        "lskd": "authors",
        "mlkd": "authors",
        "nst": "repdistiller",
        "ofd": "authors",
        "pkt": "repdistiller",
        "reviewkd": "mdistiller",
        "rkd": "repdistiller",
        "sdd": "authors_same",
        "sp": "repdistiller",
        "tfkd": "authors",
        "vid": "repdistiller",
        "wsld": "authors",
    }
)
"""The preset that each method's default follows; methods without one run at weight 1 beside cross-entropy at 1."""

LOWERED: Mapping[str, float] = MappingProxyType({"ab": 0.1, "at": 0.01, "fsp": 0.01, "nst": 0.1, "rkd": 0.1})
"""Factors of preset weights that drown the labels here.

Published weights are those of networks with 16 to 256 channels on CIFAR-100. For every loss on features the weights
times 1, 1/10 and 1/100 were tried on textures, seeds 100 and 101, which no benchmark uses; the preset's weight stayed
unless a lower one raised the mean validation accuracy by more than a point.
"""

_ON_LABELS = ("ce", "cwtm")  # their own term is the labels'
_LR_FACTORS = (1.0, 0.5, 2.0)
_WEIGHTS = (1.0, 1 / 3, 3.0, 1 / 10, 10.0)
_WEIGHT_AND_TEMPERATURE = ((1.0, 1.0), (1.0, 0.5), (1.0, 2.0), (1 / 3, 1.0), (3.0, 1.0))
_SMOOTHING = (0.0, 0.1, 0.05, 0.2, 0.02)
MOST_CANDIDATES = len(_LR_FACTORS) * len(_WEIGHTS)
"""Size of every method's space."""


@dataclass(frozen=True)
class Setting:
    """How a method is run.

    Attributes:
        weight: Weight of the method's own term (or of each of its levels).
        ce_weight: Weight of cross-entropy with the labels beside it.
        kd_weight: Weight of plain KD (temperature 4) beside it.
        options: Options of the loss.
        warmup: Share of the epochs over which ``weight`` rises from 0.
        first_stage: Share of the epochs in which the method's own term trains alone; afterward it has weight 0.
        lr_factor: Multiplies the learning rate.
        preset: Where the default's numbers are from; empty where they are ours.
    """

    weight: float = 1.0
    ce_weight: float = 1.0
    kd_weight: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)
    warmup: float = 0.0
    first_stage: float = 0.0
    lr_factor: float = 1.0
    preset: str = ""


def default_setting(name: str) -> Setting:
    """The setting of a method's preset.

    The weight is the preset's, for five methods times a factor of :data:`LOWERED`. A warm-up keeps its share of the
    published epochs. Presets of initialization phases get :data:`FIRST_STAGE` of the epochs for it, then cross-entropy
    alone, so that all methods train equally long.

    Raises:
        UnknownNameError: There is no such method.
    """
    if name in _ON_LABELS:
        return Setting(ce_weight=0.0)
    if name not in PRESETS:
        methods[name]  # raises with close matches
        return Setting()
    preset = methods.get(name, preset=PRESETS[name]).preset
    assert preset is not None
    factor = LOWERED.get(name, 1.0)
    staged = preset.ce_weight == 0.0 and preset.kd_weight == 0.0
    return Setting(
        factor * preset.weight,
        1.0 if staged else preset.ce_weight,
        preset.kd_weight,
        dict(preset.options),
        preset.warmup / PUBLISHED_EPOCHS,
        FIRST_STAGE if staged else 0.0,
        preset=preset.name if factor == 1.0 else f"{preset.name}, its weight times {factor:g}",
    )


def candidates(name: str, count: int) -> list[Setting]:
    """The first settings of a method's space; the first of all is its default.

    Args:
        name: A registered method.
        count: How many, at most :data:`MOST_CANDIDATES`.

    Raises:
        UnknownNameError: There is no such method.
        ConfigError: The space does not hold so many.
    """
    if name not in methods:
        raise UnknownNameError("method", name, methods)
    check_range("tune", count, 1, MOST_CANDIDATES)
    own = list(_own_axis(name, default_setting(name)))
    space = [replace(setting, lr_factor=factor) for factor in _LR_FACTORS for setting in own]
    return space[:count]


def _own_axis(name: str, default: Setting) -> Iterator[Setting]:
    if name == "ce":
        for smoothing in _SMOOTHING:
            yield replace(default, options={"label_smoothing": smoothing})
        return
    temperature = _temperature(name, default)
    if temperature is None:
        for factor in _WEIGHTS:
            yield replace(default, weight=factor * default.weight)
        return
    for factor, warmth in _WEIGHT_AND_TEMPERATURE:
        options = {**default.options, "temperature": warmth * temperature}
        yield replace(default, weight=factor * default.weight, options=options)


def _temperature(name: str, default: Setting) -> float | None:
    """The temperature of a loss on logits or logit maps; CRD's is that of a contrast, which is left alone."""
    if methods[name].family != "response" and name != "dist":
        return None
    if "temperature" in default.options:
        return float(default.options["temperature"])
    return getattr(methods[name].build(**default.options), "temperature", None)
