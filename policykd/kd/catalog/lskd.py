"""Record of :mod:`policykd.kd.losses.lskd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="lskd",
    title="Logit standardization",
    paper="Sun, Ren, Li, Wang, Cao: Logit Standardization in Knowledge Distillation",
    year=2024,
    venue="CVPR",
    family="response",
    rank=2,
    needs=("logits",),
    equation="KD on (z - mean(z)) / (std(z) + 1e-7)",
    loss="policykd.kd.losses.lskd:LSKD",
    variants={
        "paper": "population deviation (C)",
        "code": "sample deviation (C - 1)",
    },
    deviations=("equal logits give zero with a finite gradient",),
    presets=(
        Preset(
            "authors",
            "the authors' code, CIFAR-100",
            "read",
            weight=9.0,
            ce_weight=0.1,
            options={"temperature": 2.0, "variant": "code"},
        ),
    ),
    default="authors",
    tuned="temperature",
)
