"""Record of :mod:`policykd.kd.losses.kdsvd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="kdsvd",
    title="Singular vectors of levels",
    paper="Lee, Kim, Song: Self-supervised Knowledge Distillation Using Singular Value Decomposition",
    year=2018,
    venue="ECCV",
    family="feature",
    needs=("features",),
    equation="sum over levels of ||exp(-(v_i - w_j)^2 / 8) of student minus that of teacher||^2",
    loss="policykd.kd.losses.kdsvd:KDSVD",
    deviations=("the sign of singular vectors is fixed", "equal singular values have gradient 0"),
    presets=(Preset("mdistiller", "mdistiller's default, CIFAR-100", "read", weight=1.0),),
    default="mdistiller",
    placement="levels_projected",
)
