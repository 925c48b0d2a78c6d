"""Agents: policies, policy files, and expert training.

``architecture`` and ``training.config`` are plain data; ``policy`` is the network, ``policy_file`` its file,
``rollout`` runs it, ``sb3_policy`` puts it into stable-baselines3, ``training`` makes experts.
"""

from policykd.agents.architecture import Architecture
from policykd.lazy import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {"LoadedPolicy": "policy_file", "Policy": "policy", "load_policy": "policy_file", "save_policy": "policy_file"},
)
__all__ = ["Architecture", "LoadedPolicy", "Policy", "load_policy", "save_policy"]
