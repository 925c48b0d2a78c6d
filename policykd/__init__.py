"""policykd: train one expert per skill, distill them into one student, measure retention and forgetting.

Importing the root package loads neither torch nor MuJoCo. Import what you need from the subpackages:
``policykd.envs``, ``policykd.agents``, ``policykd.merge``, ``policykd.evaluation``, ``policykd.report``.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("policykd")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"

__all__ = ["__version__"]
