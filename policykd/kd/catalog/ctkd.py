"""Record of :mod:`policykd.kd.losses.ctkd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="ctkd",
    title="Curriculum temperature",
    paper="Li, Li, Yang, Zhao, Song, Luo, Li, Yang: Curriculum Temperature for Knowledge Distillation",
    year=2023,
    venue="AAAI",
    family="response",
    needs=("logits",),
    equation="T^2 KL(softmax(z_t / T) || softmax(z_s / T)), T trained with a reversed gradient",
    loss="policykd.kd.losses.ctkd:CTKD",
    deviations=(
        "the curriculum is the caller's: set strength to curriculum(epoch)",
        "the temperature per sample is left out",
    ),
    presets=(
        Preset(
            "authors",
            "the authors' code, CIFAR-100, with KD's weights",
            "read",
            weight=0.9,
            ce_weight=0.1,
            options={"lowest": 1.0, "span": 20.0},
        ),
    ),
    default="authors",
    trainable=True,
)
