"""Record of :mod:`policykd.kd.losses.at`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="at",
    title="Attention transfer",
    paper="Zagoruyko, Komodakis: Paying More Attention to Attention",
    year=2017,
    venue="ICLR",
    family="feature",
    rank=1,
    needs=("features",),
    equation="sum over levels ||a_s - a_t||, a = vec(mean_c F^2) / its norm",
    loss="policykd.kd.losses.at:AT",
    variants={
        "code": "mean over places of the squared difference",
        "paper": "its l2 norm per sample",
    },
    deviations=("the factor 1/2 and the weight of the paper are left to the caller",),
    presets=(
        Preset("repdistiller", "RepDistiller script, CIFAR-100", "read", weight=1000.0, options={"variant": "code"}),
    ),
    default="repdistiller",
    weight_factor=0.01,
    placement="levels",
)
