"""Record of :mod:`policykd.kd.losses.dkd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="dkd",
    title="Decoupled knowledge distillation",
    paper="Zhao, Cui, Song, Qiu, Liang: Decoupled Knowledge Distillation",
    year=2022,
    venue="CVPR",
    family="response",
    rank=3,
    needs=("logits", "targets"),
    equation="T^2 [w_t KL(b_t || b_s) + w_n KL(q_t || q_s)], b = label against rest, q = the rest",
    loss="policykd.kd.losses.dkd:DKD",
    deviations=("masses in log space and a masked label instead of log(sum p) and -1000: finite when saturated",),
    presets=(
        Preset(
            "mdistiller",
            "mdistiller configuration, CIFAR-100, resnet32x4 pairs",
            "read",
            options={"nckd_weight": 8.0},
            warmup=20,
        ),
        Preset(
            "mdistiller_wrn",
            "mdistiller configuration, CIFAR-100, WRN and VGG",
            "read",
            options={"nckd_weight": 6.0},
            warmup=20,
        ),
        Preset(
            "mdistiller_resnet56",
            "mdistiller configuration, CIFAR-100, 56 to 20",
            "read",
            options={"nckd_weight": 2.0},
            warmup=20,
        ),
    ),
    default="mdistiller",
    tuned="temperature",
)
