"""Suites: named lists of skills.

It describes only: MuJoCo is loaded where environments are built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from policykd.envs.skills import Skill, get_skill
from policykd.errors import UnknownNameError

SUITES: Mapping[str, tuple[str, ...]] = {
    "terrains": ("biped/flat", "biped/incline", "biped/steps", "biped/slopes", "biped/gaps"),
    "terrains-hard": ("biped/slopes:hard@0.8", "biped/steps:hard@0.4", "biped/walls:hard@0.8", "biped/gaps:hard"),
    "gaits": ("biped/flat", "biped/flat+run", "biped/flat+backwards", "biped/flat+crouch", "biped/flat+hop"),
    "quadruped": tuple(f"quadruped/{name}" for name in ("flat", "incline", "steps", "slopes", "gaps")),
    "quadruped-gaits": tuple(
        f"quadruped/flat+{name}" for name in ("trot", "pace", "bound", "creep", "reverse", "turn")
    ),
    "quadruped-hard": tuple(f"quadruped/{name}" for name in ("rough", "stairs", "barriers", "stones", "beams")),
    "humanoid": tuple(f"humanoid/{name}" for name in ("flat", "slopes", "steps", "rough")),
}
"""Ids of the skills of every suite, in the order in which a curriculum visits them.

``terrains`` are the five of PLAID; ``terrains-hard`` are at the limit of what a specialist can learn (docs/tasks.md);
``gaits`` are tasks that need different actions in the same state, so that only the command distinguishes them.
``quadruped-gaits`` are the same for a quadruped, told apart by the rhythm, height, velocity and yaw rate that are
commanded.
``quadruped`` are the terrains of PLAID for a quadruped, with sizes in proportion to its legs; ``quadruped-hard`` are
grounds that vary in x and y: rough ground, stairs of 10 to 15 cm up and down, walls in any direction, stepping stones,
beams. A ``humanoid`` sees the ground along its heading only, on rough ground, too.
"""

_GROUPS: Mapping[str, tuple[str, ...]] = {
    "gaits": ("proprio", "command"),
    "quadruped-gaits": ("imu", "base_velocity", "joints", "last_action", "command", "gait"),
    "humanoid": ("imu", "base_velocity", "joints", "last_action", "command", "scan"),
}
"""Observation groups of suites that need others than the groups of walking on terrain."""


def suite_names() -> list[str]:
    """Return the names of the suites."""
    return list(SUITES)


def get_suite(name: str, groups: Sequence[str] | None = None) -> list[Skill]:
    """Return the skills of a suite in order; they have the same robot, observation groups and episode length.

    Args:
        name: one of :func:`suite_names`.
        groups: observation groups; None for those of the suite, which distinguish its skills.

    Raises:
        UnknownNameError: for an unknown suite or group; close matches are named.
    """
    if name not in SUITES:
        raise UnknownNameError("suite", name, SUITES)
    wanted = _GROUPS.get(name) if groups is None else groups
    return [get_skill(skill_id, wanted) for skill_id in SUITES[name]]
