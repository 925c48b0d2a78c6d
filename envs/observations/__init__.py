"""Observation groups: named blocks of features; policies declare the groups that they read.

``group`` defines the form, ``planar``, ``spatial``, ``model_groups`` and ``task_groups`` have the built-in groups,
``registry`` finds groups by name, ``reading`` adds noise, scale, clip and history. To add a group, define one and
register it; nothing else changes.
"""

from policykd.envs.observations.group import Mirrored, ObservationGroup, Surroundings
from policykd.envs.observations.planar import SCAN_AHEAD, SCAN_BEHIND, SCAN_POINTS
from policykd.envs.observations.reading import Reading, reading_of
from policykd.envs.observations.registry import (
    GROUPS,
    chosen_groups,
    get_group,
    group_names,
    group_sizes,
    register_group,
    split_history,
)
from policykd.envs.observations.task_groups import COMMAND, PHASE_BINS

__all__ = [
    "COMMAND",
    "GROUPS",
    "PHASE_BINS",
    "SCAN_AHEAD",
    "SCAN_BEHIND",
    "SCAN_POINTS",
    "Mirrored",
    "ObservationGroup",
    "Reading",
    "Surroundings",
    "chosen_groups",
    "get_group",
    "group_names",
    "group_sizes",
    "reading_of",
    "register_group",
    "split_history",
]
