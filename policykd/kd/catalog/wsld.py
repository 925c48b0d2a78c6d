"""Record of :mod:`policykd.kd.losses.wsld`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="wsld",
    title="Weighted soft labels",
    paper="Zhou, Song, Chen, Zhou, Wang, Yuan, Zhang: Rethinking Soft Labels for Knowledge Distillation",
    year=2021,
    venue="ICLR",
    family="response",
    rank=4,
    needs=("logits", "targets"),
    equation="T^2 w (-sum_c p_t log p_s), w = 1 - exp(-CE_s / CE_t) without gradient",
    loss="policykd.kd.losses.wsld:WSLD",
    deviations=("the teacher's cross-entropy is at least 1e-7 in the quotient",),
    presets=(
        Preset("authors_imagenet", "the authors' code, ImageNet", "read", weight=2.5, options={"temperature": 2.0}),
        Preset("authors", "the authors' code, CIFAR-100", "recalled", weight=2.25, options={"temperature": 4.0}),
    ),
    default="authors",
    tuned="temperature",
)
