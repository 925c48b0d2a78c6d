"""Record of :mod:`policykd.kd.losses.reviewkd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="reviewkd",
    title="Knowledge review",
    paper="Chen, Liu, Zhao, Jia: Distilling Knowledge via Knowledge Review",
    year=2021,
    venue="CVPR",
    family="feature",
    rank=9,
    needs=("features",),
    equation="sum over levels [MSE + sum_j 2^-j MSE(pool_j)] / (1 + sum_j 2^-j) after fusion from deep to shallow",
    loss="policykd.kd.losses.reviewkd:ReviewKD",
    presets=(
        Preset(
            "mdistiller", "mdistiller configuration, CIFAR-100, WRN and resnet32x4 pairs", "read", weight=5.0, warmup=20
        ),
        Preset(
            "mdistiller_shuffle_v2",
            "mdistiller configuration, CIFAR-100, to ShuffleNetV2",
            "read",
            weight=8.0,
            warmup=20,
        ),
        Preset("mdistiller_resnet56", "mdistiller configuration, CIFAR-100, 56 to 20", "read", weight=0.6, warmup=20),
    ),
    default="mdistiller",
    placement="levels_and_pooled",
    trainable=True,
)
