"""The robots of gymnasium's MuJoCo environments, version 5, simulated from the files that gymnasium comes with.

Frame skips, noise at the start and limits of the observations are those of the published environments; their rewards
and terminations are tasks (``tasks/published.py``).
"""

from __future__ import annotations

from policykd.envs.robots.model_robot import GymnasiumModel, ModelRobot

GYMNASIUM_BODIES = (
    ModelRobot("hopper", GymnasiumModel("hopper.xml"), decimation=4, task="hopper-v5", velocity_limit=10.0),
    ModelRobot("walker2d", GymnasiumModel("walker2d_v5.xml"), decimation=4, task="walker2d-v5", velocity_limit=10.0),
    ModelRobot(
        "halfcheetah", GymnasiumModel("half_cheetah.xml"), task="halfcheetah-v5", reset_noise=0.1, reset_normal=True
    ),
    ModelRobot("ant", GymnasiumModel("ant.xml"), task="ant-v5", reset_noise=0.1, reset_normal=True, force_limit=1.0),
    ModelRobot("humanoid-v5", GymnasiumModel("humanoid.xml"), task="humanoid-v5", reset_noise=0.01),
)
"""Hopper, Walker2d, HalfCheetah, Ant and Humanoid."""

GYMNASIUM = "gymnasium:"
"""Prefix of a model that gymnasium comes with, in tables: ``gymnasium:ant``."""

_ASSETS = {"halfcheetah": "half_cheetah.xml", "walker2d": "walker2d_v5.xml", "humanoid-v5": "humanoid.xml"}


def gymnasium_model(name: str) -> GymnasiumModel:
    """Return the model for ``gymnasium:<name>``: one of the robots here, or the name of a file without ``.xml``."""
    asset = name.removeprefix(GYMNASIUM)
    return GymnasiumModel(_ASSETS.get(asset, f"{asset}.xml"))
