"""Record of :mod:`policykd.kd.losses.crd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="crd",
    title="Contrastive representation distillation",
    paper="Tian, Krishnan, Isola: Contrastive Representation Distillation",
    year=2020,
    venue="ICLR",
    family="contrastive",
    rank=1,
    needs=("features", "indices"),
    equation="-[log h_0 + sum_k log(1 - h_k)] on both sides, h = o / (o + K / N), o = exp(v' m / T) / Z",
    loss="policykd.kd.losses.crd:CRD",
    variants={
        "fixed_z": "Z from the first batch, then kept: the code, and all published numbers",
        "paper": "Z = 1",
    },
    deviations=(
        "log space instead of 1e-7 in the denominators",
        "negatives drawn with replacement, as a function of seed, sample and visit",
        "banks are updated between steps and exchanged between processes",
    ),
    presets=(
        Preset(
            "repdistiller",
            "RepDistiller script, CIFAR-100",
            "read",
            weight=0.8,
            options={"dim": 128, "negatives": 16384, "temperature": 0.07, "momentum": 0.5, "normalizer": "fixed_z"},
        ),
        Preset(
            "small_data",
            "digits, 100 to 1000 samples",
            "ours",
            weight=0.8,
            options={"dim": 16, "negatives": 64, "temperature": 0.1},
        ),
    ),
    default="small_data",
    placement="pooled_memory",
    stateful=True,
    trainable=True,
)
