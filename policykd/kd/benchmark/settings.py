"""Settings: each loss's default, from its preset, and its small space of alternatives for ``--tune``.

Every space has the same size. Its first axis is the loss's own, five values: label smoothing for cross-entropy, weight
and temperature for losses with a temperature, the weight for all others (``LossInfo.tuned``); its second axis, shared
by all, is the learning rate times 1, 1/2 or 2. Candidates are taken in that order, the loss's own axis first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from policykd.errors import check_range
from policykd.kd.registry import LOSSES, LossInfo

PUBLISHED_EPOCHS = 240
"""Epochs of the published runs that presets count their warm-up in (CIFAR-100)."""

FIRST_STAGE = 1 / 8
"""Share of the epochs of an initialization phase, for losses that train features first and the classifier after."""

_LR_FACTORS = (1.0, 0.5, 2.0)
_WEIGHTS = (1.0, 1 / 3, 3.0, 1 / 10, 10.0)
_WEIGHT_AND_TEMPERATURE = ((1.0, 1.0), (1.0, 0.5), (1.0, 2.0), (1 / 3, 1.0), (3.0, 1.0))
_SMOOTHING = (0.0, 0.1, 0.05, 0.2, 0.02)
MOST_CANDIDATES = len(_LR_FACTORS) * len(_WEIGHTS)
"""Size of every loss's space."""


@dataclass(frozen=True)
class Setting:
    """How a loss is run.

    Attributes:
        weight: Weight of the loss's own term (or of each of its levels).
        ce_weight: Weight of cross-entropy with the labels, added to it.
        kd_weight: Weight of plain KD (temperature 4), added to it.
        options: Options of the loss.
        warmup: Share of the epochs over which ``weight`` rises from 0.
        first_stage: Share of the epochs in which the loss's own term trains alone; afterward it has weight 0.
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
    """Return the setting of a loss's default preset; without one, weight 1 and cross-entropy at 1.

    The weight is the preset's times the record's ``weight_factor``. A warm-up keeps its share of the published epochs.
    Presets of initialization phases get :data:`FIRST_STAGE` of the epochs for it, then cross-entropy alone, so that all
    losses train equally long.

    Args:
        name: A loss, or ``package.module:Attribute`` of a record.

    Raises:
        UnknownNameError: The loss is unknown.
    """
    info = LOSSES.resolve(name)
    if not info.default:
        return Setting(ce_weight=0.0 if info.replaces_cross_entropy else 1.0)
    preset, factor = info.default_preset, info.weight_factor
    staged = preset.ce_weight == 0.0 and preset.kd_weight == 0.0 and not info.replaces_cross_entropy
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
    """Return the first settings of a loss's space; the first of all is its default.

    Args:
        name: A loss, or ``package.module:Attribute`` of a record.
        count: How many, at most :data:`MOST_CANDIDATES`.

    Raises:
        UnknownNameError: The loss is unknown.
        ConfigError: The space does not hold that many.
    """
    info = LOSSES.resolve(name)
    check_range("tune", count, 1, MOST_CANDIDATES)
    own = list(_own_axis(info, default_setting(name)))
    space = [replace(setting, lr_factor=factor) for factor in _LR_FACTORS for setting in own]
    return space[:count]


def _own_axis(info: LossInfo, default: Setting) -> Iterator[Setting]:
    if info.tuned == "label_smoothing":
        for smoothing in _SMOOTHING:
            yield replace(default, options={**default.options, "label_smoothing": smoothing})
    elif info.tuned == "temperature":
        temperature = float(info.build(**default.options).temperature)
        for factor, warmth in _WEIGHT_AND_TEMPERATURE:
            options = {**default.options, "temperature": warmth * temperature}
            yield replace(default, weight=factor * default.weight, options=options)
    else:
        for factor in _WEIGHTS:
            yield replace(default, weight=factor * default.weight)
