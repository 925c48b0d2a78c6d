"""Agents: policies, policy files, and expert training.

``architecture`` and ``training.config`` are plain data. ``policy`` is the network, ``files`` its file, ``episodes``
runs it, ``validation`` measures it during training and merging, ``injection`` enlarges it, ``training`` trains experts.
"""

from policykd.agents.architecture import Architecture
from policykd.lazy import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {
        "LoadedPolicy": "files.policy_file",
        "Policy": "policy",
        "load_policy": "files.policy_file",
        "save_policy": "files.policy_file",
    },
)
__all__ = ["Architecture", "LoadedPolicy", "Policy", "load_policy", "save_policy"]
