"""Models of MuJoCo Menagerie, fetched by its own package; nothing here needs a network until such a model is named."""

from __future__ import annotations

from pathlib import Path

from policykd.errors import ConfigError, MissingDependencyError

MENAGERIE = "menagerie:"
"""Prefix of a model in Menagerie: ``menagerie:unitree_go1`` or ``menagerie:unitree_go1/go1``."""


def menagerie_model(name: str) -> Path:
    """Return the path of a Menagerie model's MJCF file; its package downloads it at first use.

    Args:
        name: ``menagerie:<robot>`` or ``menagerie:<robot>/<entry>``.

    Raises:
        MissingDependencyError: without the extra ``robots``.
        ConfigError: for an unknown robot or entry, or if the model cannot be downloaded.
    """
    try:
        import mujoco_menagerie
    except ImportError as error:
        raise MissingDependencyError(
            f"{name} needs mujoco-menagerie, which is not installed: pip install 'policykd[robots]'"
        ) from error
    robot, _, entry = name.removeprefix(MENAGERIE).partition("/")
    try:
        found = mujoco_menagerie.get(robot)
        return Path(found.path(entry or found.entry_names[0]))
    except LookupError as error:
        raise ConfigError(f"{name} is not a model of MuJoCo Menagerie: {error}") from error
    except (mujoco_menagerie.MenagerieError, OSError) as error:
        raise ConfigError(
            f"{name} could not be fetched ({error}); without a network set MENAGERIE_ROOT to a checkout of "
            "MuJoCo Menagerie"
        ) from error
