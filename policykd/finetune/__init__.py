"""Fine-tuning: reinforcement learning that starts from a student and loses nothing.

``config`` describes a run, ``learner`` is PPO with a leash to the start, and ``recorded`` reads states of skills that
cannot be simulated. ``run`` validates every skill, takes weights back, and returns a policy that is not worse than its
start beyond a stated bound.
"""

from policykd.finetune.config import FinetuneConfig
from policykd.lazy import lazy_exports

__getattr__ = lazy_exports(__name__, {"FinetuneResult": "run", "finetune": "run"})
__all__ = ["FinetuneConfig", "FinetuneResult", "finetune"]
