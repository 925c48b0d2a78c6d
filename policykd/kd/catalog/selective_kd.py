"""Record of :mod:`policykd.kd.losses.selective_kd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="selective_kd",
    title="Distillation where the teacher is not too wrong",
    paper="Xu, Liu, Li, Loy: Knowledge Distillation Meets Self-Supervision",
    year=2020,
    venue="ECCV",
    family="response",
    rank=13,
    needs=("logits", "targets"),
    equation="T^2 KL(p_t || p_s) over samples that the teacher gets right and the least wrong share k of the others",
    loss="policykd.kd.losses.selective_kd:SelectiveKD",
    presets=(
        Preset(
            "digits",
            "weights, T and k of system sskd, digits",
            "ours",
            weight=0.9,
            ce_weight=0.1,
            options={"temperature": 4.0, "share": 0.75},
        ),
    ),
    default="digits",
    tuned="temperature",
    batch_coupled=True,
)
