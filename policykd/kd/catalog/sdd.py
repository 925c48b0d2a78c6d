"""Record of :mod:`policykd.kd.losses.sdd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="sdd",
    title="Scale-decoupled distillation",
    paper="Wei, Luo, Luo: Scale Decoupled Distillation",
    year=2024,
    venue="CVPR",
    family="response",
    rank=9,
    needs=("features", "targets"),
    equation="mean over cells of w * base(z_s(cell), z_t(cell)), w = 2 where the cell disagrees with the image",
    loss="policykd.kd.losses.sdd:SDD",
    deviations=("takes logit maps; by linearity that equals the classifier on pooled features",),
    presets=(
        Preset(
            "authors_same",
            "the authors' code, CIFAR-100, same family",
            "read",
            weight=0.9,
            ce_weight=0.1,
            options={"cells": (1, 2)},
        ),
        Preset(
            "authors_cross",
            "the authors' code, CIFAR-100, other family",
            "read",
            weight=0.9,
            ce_weight=0.1,
            options={"cells": (1, 2, 4)},
        ),
    ),
    default="authors_same",
    placement="logit_maps",
    tuned="temperature",
)
