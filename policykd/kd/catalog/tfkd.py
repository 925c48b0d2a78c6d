"""Record of :mod:`policykd.kd.losses.tfkd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="tfkd",
    title="Teacher-free distillation, virtual teacher",
    paper="Yuan, Tay, Li, Wang, Feng: Revisiting Knowledge Distillation via Label Smoothing Regularization",
    year=2020,
    venue="CVPR",
    family="baseline",
    rank=2,
    needs=("logits", "targets"),
    equation="KL(v || softmax(z_s)), v = (a on the label, (1 - a) / (C - 1) elsewhere) softened by T",
    loss="policykd.kd.losses.tfkd:TFKD",
    variants={
        "paper": "softened as logits are, summed over classes",
        "code": "softmax(v / T) of the probabilities, also divided by the number of classes",
    },
    deviations=("the student is not softened, as in the code",),
    presets=(
        Preset(
            "authors",
            "the authors' code, CIFAR-100, 0.1 times its multiplier 100",
            "read",
            weight=10.0,
            ce_weight=0.9,
            options={"variant": "code"},
        ),
    ),
    default="authors",
)
