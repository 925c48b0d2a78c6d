"""Merging in weight space: one policy from the numbers in several, without labels and without a simulation.

    config = WeightMergeConfig("ties")
    merge_weights([Path("experts/steps"), Path("experts/gaps")], Path("merged"), config)

It is a baseline for distillation, and a start for it (``policykd merge ... --init merged``). ``config`` describes a
merge, ``contract`` checks that policies can be merged, ``normalizers`` refers their weights to one normalizer,
``methods`` combines them, ``ancestor`` finds the policy that all come from, ``merge`` works on files.
"""

from policykd.lazy import lazy_exports
from policykd.merge.weights.config import METHODS, WeightMergeConfig

__getattr__ = lazy_exports(
    __name__, {"WeightMerge": "merge", "common_ancestor": "ancestor", "merge_weights": "merge", "pooled": "normalizers"}
)
__all__ = ["METHODS", "WeightMerge", "WeightMergeConfig", "common_ancestor", "merge_weights", "pooled"]
