"""Presets of a merge's configuration, by name. They are data and load no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from policykd.errors import UnknownNameError
from policykd.merge.config import MergeConfig, no_kfac

MERGE_PRESETS: Mapping[str, MergeConfig] = MappingProxyType(
    {
        "standard": MergeConfig(),
        "fast": MergeConfig(
            stop="confirmed", beta="constant:0", rounds=6, envs=4, noise=0.05, passes=12.0,
            optimizer="kfac", step_length=0.01, minibatch=512, learning_rate=1e-3, averaging=0.998,
            adaptive=0.5, gap_memory=0.3, target_retention=0.98, validation_episodes=24, critic="teacher", updates=150,
        ),
        "compress": MergeConfig(start="previous", loss="forward_kl", beta="constant:1", protection="ewc"),
    }
)  # fmt: skip
"""``fast`` is for few labeled states and seconds, ``standard`` for the most retention, ``compress`` for adding a skill
to a student whose old skills cannot be simulated: the compress step of Progress & Compress (Schwarz et al., 2018),
which distills the new expert, acting in its own skill, under online EWC; see docs/merging.md."""


def merge_preset(name: str) -> MergeConfig:
    """Return a preset.

    Raises:
        UnknownNameError: for an unknown name, with the close ones.
    """
    if name not in MERGE_PRESETS:
        raise UnknownNameError("merge preset", name, MERGE_PRESETS)
    return MERGE_PRESETS[name]


def on_preset(name: str, given: MergeConfig) -> MergeConfig:
    """Return a preset with all fields of a given configuration that are not at their defaults.

    Where these make K-FAC impossible (a student with a memory, another loss), ``fast`` has Adam and twice the passes.

    Args:
        name: the preset.
        given: the configuration; a field at its default counts as not given.

    Raises:
        UnknownNameError: for an unknown preset.
        ConfigError: if the fields do not fit together.
    """
    usual = MergeConfig()
    fields = [f.name for f in dataclasses.fields(MergeConfig)]
    changed = {f: getattr(given, f) for f in fields if getattr(given, f) != getattr(usual, f)}
    preset = merge_preset(name)
    if preset.optimizer == "kfac" and no_kfac(given):
        changed = {"optimizer": "adam", "passes": 2 * preset.passes, **changed}
    return dataclasses.replace(preset, **changed)
