"""Record of :mod:`policykd.kd.losses.ce`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="ce",
    title="Cross-entropy and label smoothing",
    paper="Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception Architecture",
    year=2016,
    venue="CVPR",
    family="baseline",
    rank=1,
    needs=("logits", "targets"),
    equation="-sum_c q_c log p_c, q = (1 - e) onehot(y) + e / C",
    loss="policykd.kd.losses.ce:CE",
    presets=(Preset("smoothed", "the paper, ImageNet", "recalled", options={"label_smoothing": 0.1}),),
    tuned="label_smoothing",
    replaces_cross_entropy=True,
)
