"""Record of :mod:`policykd.kd.losses.fitnet`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="fitnet",
    title="FitNets hints",
    paper="Romero, Ballas, Kahou, Chassang, Gatta, Bengio: FitNets: Hints for Thin Deep Nets",
    year=2015,
    venue="ICLR",
    family="feature",
    rank=2,
    needs=("features",),
    equation="||u_t - r(u_s)||^2",
    loss="policykd.kd.losses.fitnet:FitNet",
    variants={
        "code": "mean over elements",
        "paper": "half the sum over elements",
    },
    deviations=("trained jointly in benchmarks; the paper trains the hint first, then KD",),
    presets=(
        Preset("repdistiller", "RepDistiller script, CIFAR-100", "read", weight=100.0, options={"variant": "code"}),
    ),
    default="repdistiller",
    placement="middle_map",
    trainable=True,
)
