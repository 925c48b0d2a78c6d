"""Record of :mod:`policykd.kd.losses.simkd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="simkd",
    title="Reused teacher classifier",
    paper="Chen, Mei, Zhang, Wang, Feng, Chen: Knowledge Distillation with the Reused Teacher Classifier",
    year=2022,
    venue="CVPR",
    family="feature",
    needs=("features",),
    equation="mean (P(f_s) - f_t)^2 of the last maps",
    loss="policykd.kd.losses.simkd:SimKD",
    presets=(Preset("authors", "the authors' code, CIFAR-100: no other loss", "read", weight=1.0, ce_weight=0.0),),
    default="authors",
    placement="policykd.kd.benchmark.connected_placements:CLASSIFIER",
    trainable=True,
)
