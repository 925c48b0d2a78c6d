"""Record of :mod:`policykd.kd.losses.cat_kd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="cat_kd",
    title="Class attention transfer",
    paper="Guo, Yan, Li, Lin: Class Attention Transfer Based Knowledge Distillation",
    year=2023,
    venue="CVPR",
    family="response",
    rank=8,
    needs=("features",),
    equation="mean (a_s - a_t)^2, a = pooled class activation map / its norm",
    loss="policykd.kd.losses.cat_kd:CATKD",
    deviations=("takes the maps; the classifier as a 1 x 1 convolution is the caller's",),
    presets=(
        Preset(
            "authors",
            "the authors' code, CIFAR-100, resnet32x4 to resnet8x4",
            "read",
            weight=15.0,
            options={"pool_size": 2},
        ),
        Preset(
            "authors_wrn",
            "the authors' code, CIFAR-100, WRN 40-2 to 16-2",
            "read",
            weight=12.0,
            options={"pool_size": 2},
        ),
        Preset(
            "authors_shuffle",
            "the authors' code, CIFAR-100, resnet32x4 to ShuffleNet",
            "read",
            weight=600.0,
            options={"pool_size": 4},
        ),
    ),
    default="authors",
    placement="logit_maps",
)
