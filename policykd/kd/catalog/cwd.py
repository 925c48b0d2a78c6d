"""Record of :mod:`policykd.kd.losses.cwd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="cwd",
    title="Channel-wise distillation",
    paper="Shu, Liu, Gao, Yan, Shen: Channel-wise Knowledge Distillation for Dense Prediction",
    year=2021,
    venue="ICCV",
    family="feature",
    needs=("features",),
    equation="T^2 / C sum_c KL(softmax_places(t_c / T) || softmax_places(s_c / T))",
    loss="policykd.kd.losses.cwd:CWD",
    deviations=("sizes may differ, the larger map is averaged down",),
    presets=(Preset("authors", "paper, feature maps, Cityscapes", "recalled", weight=50.0),),
    default="authors",
    placement="last_map_connected",
    trainable=True,
)
