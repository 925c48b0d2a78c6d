"""Record of :mod:`policykd.kd.losses.semckd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="semckd",
    title="Semantic calibration",
    paper="Chen, Mei, Zhang, Wang, Wang, Feng, Chen: Cross-Layer Distillation with Semantic Calibration",
    year=2021,
    venue="AAAI",
    family="feature",
    needs=("features",),
    equation="1/S sum over pairs of levels of attention * mean (P(f_s) - f_t)^2",
    loss="policykd.kd.losses.semckd:SemCKD",
    deviations=("rows of similarities are padded to a largest batch and divided by their norm",),
    presets=(
        Preset(
            "authors", "the authors' script, CIFAR-100, with KD at weight 1", "recalled", weight=400.0, kd_weight=1.0
        ),
    ),
    default="authors",
    placement="policykd.kd.benchmark.connected_placements:LEVELS",
    trainable=True,
    batch_coupled=True,
)
