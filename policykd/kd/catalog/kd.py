"""Record of :mod:`policykd.kd.losses.kd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="kd",
    title="Knowledge distillation",
    paper="Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network",
    year=2015,
    venue="NIPS 2014 workshop, arXiv 1503.02531",
    family="response",
    rank=1,
    needs=("logits",),
    equation="T^2 KL(softmax(z_t / T) || softmax(z_s / T))",
    loss="policykd.kd.losses.kd:KD",
    variants={
        "paper": "summed over classes, mean over the batch",
        "element_mean": "also divided by the number of classes, as when the KL's reduction is left at its default",
    },
    deviations=("KL instead of cross-entropy with the soft targets: same gradient, zero at the teacher",),
    presets=(
        Preset(
            "repdistiller",
            "RepDistiller script, CIFAR-100",
            "read",
            weight=0.9,
            ce_weight=0.1,
            options={"temperature": 4.0},
        ),
        Preset(
            "paper_speech",
            "the paper, speech; T of 1, 2, 5, 10 tried",
            "recalled",
            ce_weight=0.5,
            options={"temperature": 2.0},
        ),
    ),
    default="repdistiller",
    tuned="temperature",
)
