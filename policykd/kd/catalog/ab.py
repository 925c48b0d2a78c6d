"""Record of :mod:`policykd.kd.losses.ab`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="ab",
    title="Activation boundaries",
    paper="Heo, Lee, Yun, Choi: Knowledge Transfer via Distillation of Activation Boundaries",
    year=2019,
    venue="AAAI",
    family="feature",
    rank=6,
    needs=("features",),
    equation="sum (s + m)^2 [s > -m, t <= 0] + (s - m)^2 [s <= m, t > 0] before the activation",
    loss="policykd.kd.losses.ab:AB",
    variants={
        "paper": "levels added",
        "code": "levels weighted 2^(l - n), everything times 3/1000",
    },
    presets=(
        Preset(
            "repdistiller",
            "RepDistiller script, CIFAR-100, initialization phase",
            "read",
            ce_weight=0.0,
            options={"variant": "code"},
        ),
    ),
    default="repdistiller",
    weight_factor=0.1,
    placement="preactivations",
    trainable=True,
)
