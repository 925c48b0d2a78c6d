"""Record of :mod:`policykd.kd.losses.sskd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="sskd",
    title="Self-supervised similarity of rotated views",
    paper="Xu, Liu, Li, Loy: Knowledge Distillation Meets Self-Supervision",
    year=2020,
    venue="ECCV",
    family="relational",
    rank=19,
    needs=("features",),
    equation="T^2 KL(softmax(a_t / T) || softmax(a_s / T)) over selected rows a = cos(rotated view, originals)",
    loss="policykd.kd.losses.sskd:SSKD",
    presets=(
        Preset(
            "digits",
            "weights, T and k of system sskd, digits; rotated class logits have a selective_kd of their own",
            "ours",
            weight=10.0,
            ce_weight=0.1,
            kd_weight=0.9,
            options={"temperature": 0.5, "share": 0.75},
        ),
    ),
    default="digits",
    placement="rotated_views",
    batch_coupled=True,
)
