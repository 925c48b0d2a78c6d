"""Record of :mod:`policykd.kd.losses.pad`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="pad",
    title="Prime-aware adaptive distillation",
    paper="Zhang, Lan, Dai, Zeng, Bai, Chang, Wei: Prime-Aware Adaptive Distillation",
    year=2020,
    venue="ECCV",
    family="feature",
    needs=("features",),
    equation="mean_d [(t - s)^2 / (eps + exp(v)) + v], v predicted per sample",
    loss="policykd.kd.losses.pad:PAD",
    deviations=("the variance starts at one instead of a stage without it",),
    presets=(Preset("default", "weight one", "ours"),),
    default="default",
    placement="policykd.kd.benchmark.connected_placements:POOLED",
    trainable=True,
)
