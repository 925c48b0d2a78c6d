"""policykd: train an expert per skill, merge the experts into one student, measure what was kept.

Importing the root package loads neither torch nor MuJoCo. Import what you need from the subpackages:
``policykd.envs``, ``policykd.agents``, ``policykd.merge``, ``policykd.evaluation``, ``policykd.report``.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("policykd")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"

__all__ = ["__version__"]
