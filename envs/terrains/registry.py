"""Terrains by name: generators of their presets, and the first and last levels of a curriculum over their difficulty.

It describes only: MuJoCo is loaded where environments are built.

Register your own terrain before a skill refers to it::

    register_terrain("stones", {"default": Stones(width=(0.2, 0.3))}, start_level=0.2)
    get_skill("biped/stones")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from typing_extensions import TypeIs

from policykd.envs.terrains.generators import Generator
from policykd.envs.terrains.map import MapGenerator
from policykd.errors import ConfigError, check_range
from policykd.names import Registry, import_object

AnyGenerator = Generator | MapGenerator
"""A generator of tracks, with a method ``profile``, or of maps, with a method ``map``."""

RESERVED = "/:@+"
"""Characters that separate the parts of a skill's id and are not allowed in names."""


@dataclass(frozen=True)
class TerrainKind:
    """A named terrain.

    Attributes:
        presets: parameter sets by name, at least one; the first is the default.
        start_level: difficulty at which a curriculum starts, as a share of the skill's own, in [0.01, 1].
        floor: lowest difficulty of a curriculum's last level, as a share of the skill's own, in [0, 1].

    Raises:
        ConfigError: for a terrain without presets, or a level out of range.
    """

    presets: Mapping[str, AnyGenerator]
    start_level: float = 0.5
    floor: float = 0.9

    def __post_init__(self) -> None:
        if not self.presets:
            raise ConfigError("a terrain needs at least one preset, for example {'default': Steps()}")
        if len({draws_maps(generator) for generator in self.presets.values()}) > 1:
            raise ConfigError("the presets of a terrain must all draw tracks or all draw maps; register two terrains")
        check_range("start_level", self.start_level, 0.01, 1.0)
        check_range("floor", self.floor, 0.0, 1.0)

    @property
    def varies_across(self) -> bool:
        """Whether the presets draw maps, which only robots in space can walk on."""
        return draws_maps(next(iter(self.presets.values())))

    @property
    def default_preset(self) -> str:
        """Name of the preset of skills whose id does not name one."""
        return next(iter(self.presets))


TERRAINS: Registry[TerrainKind] = Registry("terrain", TerrainKind)
"""Terrains by name."""


def register_terrain(
    name: str, presets: Mapping[str, AnyGenerator], *, start_level: float = 0.5, floor: float = 0.9
) -> TerrainKind:
    """Make a terrain available in skill ids; registering an equal terrain again changes nothing.

    Args:
        name: name of the terrain in skill ids.
        presets: parameter sets by name; the first is the default.
        start_level: difficulty at which a curriculum starts, as a share of the skill's own.
        floor: lowest difficulty of a curriculum's last level, as a share of the skill's own.

    Raises:
        ConfigError: if the name contains a separator of skill ids or belongs to another terrain, presets are missing,
            or a level is out of range.
    """
    for part in (name, *presets):
        check_name("terrain", part)
    return TERRAINS.register(name, TerrainKind(dict(presets), start_level, floor))


def import_terrain(path: str) -> str:
    """Import the generator or terrain at ``package.module:Attribute``, register it and return its name.

    A generator becomes a terrain with one preset. The terrain's name is the attribute's in lower case.

    Raises:
        ConfigError: if the path cannot be imported, or its object is neither a generator nor a terrain.
    """
    found, name = import_object(path), path.rpartition(":")[2].rpartition(".")[2].lower()
    if isinstance(found, TerrainKind):
        TERRAINS.register(name, found)
    elif not isinstance(found, type) and any(callable(getattr(found, method, None)) for method in ("profile", "map")):
        register_terrain(name, {"default": found})
    else:
        raise ConfigError(f"'{path}' is neither a terrain generator nor a TerrainKind, but a {type(found).__name__}")
    return name


def draws_maps(generator: AnyGenerator) -> TypeIs[MapGenerator]:
    """Return whether a generator draws maps, which vary in x and y, instead of tracks."""
    return callable(getattr(generator, "map", None))


def check_name(kind: str, name: str) -> None:
    """Raise unless a name can be part of a skill's id.

    Raises:
        ConfigError: for an empty name, or a name with a separator.
    """
    if not name or any(separator in name for separator in RESERVED):
        raise ConfigError(f"{kind} name '{name}' must not be empty or contain any of {' '.join(RESERVED)}")
