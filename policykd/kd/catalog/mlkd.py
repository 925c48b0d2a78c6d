"""Record of :mod:`policykd.kd.losses.mlkd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="mlkd",
    title="Multi-level logit distillation",
    paper="Jin, Wang, Lin: Multi-Level Logit Distillation",
    year=2023,
    venue="CVPR",
    family="relational",
    rank=2,
    needs=("logits",),
    equation="sum_T [T^2 KL + ||P_t P_t' - P_s P_s'||^2 / B + ||P_t' P_t - P_s' P_s||^2 / C]",
    loss="policykd.kd.losses.mlkd:MLKD",
    deviations=(
        "without the masks, which in the code act as a factor on an averaged number",
        "one view a call; the strongly augmented one is a second call",
    ),
    presets=(
        Preset(
            "authors",
            "the authors' code, CIFAR-100, its weight per term and one of two views",
            "read",
            weight=0.9,
            ce_weight=0.1,
        ),
    ),
    default="authors",
    batch_coupled=True,
)
