"""Record of :mod:`policykd.kd.losses.nkd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="nkd",
    title="Normalized knowledge distillation",
    paper="Yang, Zeng, Li, Zhang, Yuan, Li: From Knowledge Distillation to Self-Knowledge Distillation",
    year=2023,
    venue="ICCV",
    family="response",
    needs=("logits", "targets"),
    equation="-t_y log s_y - gamma T^2 sum over other classes of q_t log q_s",
    loss="policykd.kd.losses.nkd:NKD",
    deviations=("the label is masked instead of removed, which is the same",),
    presets=(
        Preset(
            "authors", "the authors' code, ImageNet", "read", weight=1.0, options={"gamma": 1.5, "temperature": 1.0}
        ),
    ),
    default="authors",
    tuned="temperature",
)
