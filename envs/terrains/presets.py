"""Terrain presets with published parameters, and the frozen record with which a skill refers to its terrain.

``paper`` has the parameters of the PLAID paper's text (Berseth et al., ICLR 2018, recalled, not re-read),
``terrainrlsim`` those of the released simulator (TerrainRLSim, ``data/terrain/*.txt``). They agree on gaps and step
heights and differ in the steepness of inclines, the spacing of steps and the roughness of slopes. ``hard`` is our own:
at difficulty 1 this biped can hardly pass (gaps of 0.8 m with legs of 0.79 m), so that a difficulty in [0, 1] reaches
the limit of what a specialist can learn; see docs/tasks.md. ``downhill`` is our own in every preset, the mirror image
of ``incline``; PLAID does not train on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module

from policykd.envs.robots.spatial import PRESET_LEG
from policykd.envs.terrains.generators import Flat, Gaps, Generator, Incline, Mixed, Slopes, Stairs, Steps, Walls
from policykd.envs.terrains.registry import TERRAINS, AnyGenerator, TerrainKind, draws_maps, register_terrain
from policykd.errors import UnknownNameError, check_range

_PAPER: dict[str, Generator] = {
    "flat": Flat(),
    "incline": Incline(angle=(20.0, 25.0)),
    "steps": Steps(run=(1.0, 1.5), height=(0.05, 0.15)),
    "slopes": Slopes(spacing=0.10, angle=(-20.0, 20.0)),
    "gaps": Gaps(run=(2.0, 2.5), width=(0.25, 0.30), depth=(0.85, 0.90)),
    "walls": Walls(run=(2.0, 4.0), height=(0.05, 0.25), thickness=(0.2, 0.2)),
    "mixed": Mixed(portions=(Incline(), Steps(), Slopes(), Gaps()), portion=3.0),
    "downhill": Incline(angle=(-25.0, -20.0)),
}

_TERRAINRLSIM: dict[str, Generator] = {
    "flat": Flat(),
    "incline": Slopes(spacing=0.025, walk=0.1, band=(0.15, 0.20)),
    "steps": Steps(run=(1.5, 2.0), height=(0.05, 0.15), high=(0.10, 0.15)),
    "slopes": Slopes(spacing=0.025, walk=0.5, band=(-0.75, 0.75)),
    "gaps": Gaps(run=(2.0, 2.5), width=(0.25, 0.30), depth=(0.85, 0.90)),
    "walls": Walls(run=(2.0, 4.0), height=(0.05, 0.25), thickness=(0.2, 0.2)),
    "mixed": Mixed(
        portions=(
            Gaps(run=(3.0, 4.0), width=(0.3, 0.5), depth=(2.0, 2.0)),
            Steps(run=(3.0, 4.0), height=(-0.3, -0.1), high=(0.1, 0.3)),
            Walls(run=(3.0, 4.0), height=(0.25, 0.4)),
            Slopes(spacing=0.025, walk=0.05, band=(-0.5, 0.5)),
        ),
        portion=4.0,
    ),
    "downhill": Slopes(spacing=0.025, walk=0.1, band=(-0.20, -0.15)),
}

_HARD: dict[str, Generator] = {
    "flat": Flat(),
    "incline": Incline(angle=(30.0, 35.0)),
    "steps": Stairs(run=(1.5, 2.5), tread=(0.30, 0.40), height=(0.16, 0.20)),
    "slopes": Slopes(spacing=0.5, angle=(-35.0, 35.0)),
    "gaps": Gaps(run=(2.5, 3.5), width=(0.7, 0.8), depth=(0.85, 0.90)),
    "walls": Walls(run=(2.5, 4.0), height=(0.35, 0.40), thickness=(0.2, 0.2)),
}
_HARD["mixed"] = Mixed(portions=tuple(_HARD[name] for name in ("steps", "slopes", "gaps", "walls")), portion=6.0)
_HARD["downhill"] = Incline(angle=(-35.0, -30.0))

_START_LEVELS = {"steps": 0.1}
"""Start levels of terrains whose curriculum starts below half of the difficulty."""

_FLOORS = {"walls": 0.5}
"""Floors of terrains whose curriculum ends with tracks easier than 0.9 of the difficulty; see docs/training.md."""

for _name in _PAPER:
    register_terrain(
        _name,
        {"paper": _PAPER[_name], "terrainrlsim": _TERRAINRLSIM[_name], "hard": _HARD[_name]},
        start_level=_START_LEVELS.get(_name, 0.5),
        floor=_FLOORS.get(_name, 0.9),
    )

import_module("policykd.envs.terrains.grounds")  # every module there registers its terrain, after those of PLAID


def terrain_names(planar: bool = False) -> list[str]:
    """Return the names of the terrains: first those of PLAID, in the order in which it visits them.

    Args:
        planar: leave out those that only robots in space can walk on.
    """
    return [name for name, kind in TERRAINS.items() if not (planar and kind.varies_across)]


@dataclass(frozen=True)
class Terrain:
    """Terrain of a skill.

    Attributes:
        name: one of :func:`terrain_names`.
        preset: parameter set of the terrain; empty for its default.
        difficulty: size of the features in [0, 1]; 0 is flat, 1 gives the generator's own parameters.
        generator: generator of the terrain's tracks; None for that of the preset.
        kind: the registered terrain of this name.

    Raises:
        UnknownNameError: for an unknown name or preset; close matches are named.
        ConfigError: for a difficulty outside [0, 1].
    """

    name: str
    preset: str = ""
    difficulty: float = 1.0
    generator: AnyGenerator = field(default=None, repr=False)  # type: ignore[assignment]  # set in __post_init__
    kind: TerrainKind = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        kind = TERRAINS[self.name]
        preset = self.preset or kind.default_preset
        if preset not in kind.presets:
            raise UnknownNameError("terrain preset", preset, kind.presets)
        check_range("difficulty", self.difficulty, 0.0, 1.0)
        object.__setattr__(self, "preset", preset)
        object.__setattr__(self, "generator", self.generator or kind.presets[preset])
        object.__setattr__(self, "kind", kind)  # stored, so that a pickled terrain does not need the registry

    @property
    def varies_across(self) -> bool:
        """Whether the ground varies across the track, too: a map, for robots in space only."""
        return draws_maps(self.generator)

    @property
    def smallest(self) -> float | None:
        """Smallest extent along the ground of features with vertical edges, at full difficulty, leg lengths.

        None for smooth ground, and for generators that do not tell.
        """
        size: float | None = getattr(self.generator, "smallest", None)
        return size if size is None or self.varies_across else size / PRESET_LEG

    @property
    def is_preset(self) -> bool:
        """Whether the generator is that of the preset, so that name, preset and difficulty define the terrain."""
        return self.generator == self.kind.presets[self.preset]
