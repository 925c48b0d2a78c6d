"""Record of :mod:`policykd.kd.losses.kta`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="kta",
    title="Knowledge adaptation with affinities",
    paper="He, Shen, Tian, Gong, Sun, Yan: Knowledge Adaptation for Efficient Semantic Segmentation",
    year=2019,
    venue="CVPR",
    family="feature",
    needs=("features",),
    equation="mean |f_s / ||f_s|| - f_t / ||f_t||| + w mean (a_s - a_t)^2, a = cosines between places",
    loss="policykd.kd.losses.kta:KTA",
    deviations=("the auto-encoder is that of factor transfer",),
    presets=(Preset("default", "weight one", "ours"),),
    default="default",
    placement="last_map_paraphrased",
    trainable=True,
)
