"""Record of :mod:`policykd.kd.losses.sp`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="sp",
    title="Similarity-preserving distillation",
    paper="Tung, Mori: Similarity-Preserving Knowledge Distillation",
    year=2019,
    venue="ICCV",
    family="relational",
    rank=3,
    needs=("features",),
    equation="||G_s - G_t||_F^2 / B^2, G = Q Q' with unit rows",
    loss="policykd.kd.losses.sp:SP",
    presets=(
        Preset("repdistiller", "RepDistiller script, CIFAR-100", "read", weight=3000.0),
        Preset("paper_cifar10", "the paper, CIFAR-10", "recalled", weight=3000.0),
        Preset("paper_cinic10", "the paper, CINIC-10", "recalled", weight=2000.0),
    ),
    default="repdistiller",
    placement="last_map",
    batch_coupled=True,
)
