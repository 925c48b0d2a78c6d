"""Record of :mod:`policykd.kd.losses.dist`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="dist",
    title="DIST, relations between and within samples",
    paper="Huang, You, Wang, Qian, Xu: Knowledge Distillation from A Stronger Teacher",
    year=2022,
    venue="NeurIPS",
    family="relational",
    rank=1,
    needs=("logits",),
    equation="T^2 [w_b (1 - mean_i rho(rows)) + w_c (1 - mean_c rho(columns))], rho = Pearson",
    loss="policykd.kd.losses.dist:DIST",
    variants={
        "paper": "exact correlation",
        "code": "1e-8 added to the product of the norms",
    },
    deviations=(
        "T^2 is the code's, the paper has none [recalled]",
        "a constant row or column has correlation 0",
    ),
    presets=(
        Preset(
            "authors",
            "the authors' code, CIFAR-100",
            "read",
            weight=2.0,
            options={"temperature": 4.0, "variant": "code"},
        ),
    ),
    default="authors",
    tuned="temperature",
    batch_coupled=True,
)
