"""Terrains: seeded generators of tracks and maps, and the height function shared by observations and physics.

A track is a row of segments along x. Each segment is a straight piece of ground, flat or sloped; where two neighbors
meet at different heights, there is an exactly vertical edge. The boxes that the feet touch and the heights that
policies observe are both computed from the segments, so they always agree.

A map varies in x and y, for robots in space: it is a union of boxes, and its height is that of the highest one.

``profiles`` describes pieces of ground, ``generators`` has one dataclass per terrain, ``registry`` names terrains,
``presets`` registers the built-in ones with published parameters, ``tracks`` has the tensors of the environment.
``map`` describes maps, ``grounds`` has one file per map, ``map_bank`` has their tensors.
"""

from policykd.envs.terrains.generators import Flat, Gaps, Generator, Incline, Mixed, Slopes, Stairs, Steps, Walls
from policykd.envs.terrains.map import Map, MapGenerator
from policykd.envs.terrains.map_bank import MapBank, Maps
from policykd.envs.terrains.presets import Terrain, terrain_names
from policykd.envs.terrains.profiles import Profile
from policykd.envs.terrains.registry import TERRAINS, TerrainKind, register_terrain
from policykd.envs.terrains.tracks import TrackBank, Tracks

__all__ = [
    "TERRAINS",
    "Flat",
    "Gaps",
    "Generator",
    "Incline",
    "Map",
    "MapBank",
    "MapGenerator",
    "Maps",
    "Mixed",
    "Profile",
    "Slopes",
    "Stairs",
    "Steps",
    "Terrain",
    "TerrainKind",
    "TrackBank",
    "Tracks",
    "Walls",
    "register_terrain",
    "terrain_names",
]
