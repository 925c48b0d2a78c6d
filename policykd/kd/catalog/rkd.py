"""Record of :mod:`policykd.kd.losses.rkd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="rkd",
    title="Relational knowledge distillation",
    paper="Park, Kim, Lu, Cho: Relational Knowledge Distillation",
    year=2019,
    venue="CVPR",
    family="relational",
    rank=5,
    needs=("features",),
    equation="w_d mean huber(d_s - d_t) + w_a mean huber(cos_s - cos_t), d = distances / their mean",
    loss="policykd.kd.losses.rkd:RKD",
    deviations=("means over all entries, the diagonal included, as in the code; the paper sums over tuples",),
    presets=(
        Preset(
            "repdistiller",
            "RepDistiller script, CIFAR-100",
            "read",
            options={"distance_weight": 25.0, "angle_weight": 50.0},
        ),
    ),
    default="repdistiller",
    weight_factor=0.1,
    placement="pooled",
    batch_coupled=True,
)
