"""Record of :mod:`policykd.kd.losses.ft`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="ft",
    title="Factor transfer",
    paper="Kim, Park, Kwak: Paraphrasing Complex Network: Network Compression via Factor Transfer",
    year=2018,
    venue="NeurIPS",
    family="feature",
    rank=7,
    needs=("features",),
    equation="|| f_s / ||f_s|| - f_t / ||f_t|| ||_1 on the translator's and the paraphraser's factors",
    loss="policykd.kd.losses.ft:FT",
    variants={
        "paper": "whole normalized factors",
        "code": "normalized channel mean of the squared factor, mean over places",
    },
    presets=(
        Preset(
            "repdistiller",
            "RepDistiller script, CIFAR-100",
            "read",
            weight=200.0,
            options={"variant": "code", "rate": 0.5},
        ),
    ),
    default="repdistiller",
    placement="last_map_paraphrased",
    trainable=True,
)
