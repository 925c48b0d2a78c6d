"""Record of :mod:`policykd.kd.losses.fsp`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="fsp",
    title="Flow of the solution procedure",
    paper="Yim, Joo, Bae, Kim: A Gift from Knowledge Distillation",
    year=2017,
    venue="CVPR",
    family="feature",
    rank=5,
    needs=("features",),
    equation="sum over level pairs ||G_s - G_t||^2, G_ij = mean_hw F_i F'_j",
    loss="policykd.kd.losses.fsp:FSP",
    variants={
        "code": "average pooling, mean over the matrix",
        "paper": "max pooling, sum over the matrix",
    },
    presets=(
        Preset(
            "repdistiller", "RepDistiller script, CIFAR-100, initialization phase", "read", weight=50.0, ce_weight=0.0
        ),
    ),
    default="repdistiller",
    weight_factor=0.01,
    placement="levels_projected",
)
