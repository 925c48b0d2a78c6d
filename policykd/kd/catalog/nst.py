"""Record of :mod:`policykd.kd.losses.nst`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="nst",
    title="Neuron selectivity transfer",
    paper="Huang, Wang: Like What You Like: Knowledge Distill via Neuron Selectivity Transfer",
    year=2017,
    venue="arXiv 1707.01219",
    family="feature",
    rank=3,
    needs=("features",),
    equation="mean k(t, t) + mean k(s, s) - 2 mean k(s, t) over unit channels, k(u, v) = (u' v)^2",
    loss="policykd.kd.losses.nst:NST",
    deviations=("larger maps are averaged down",),
    presets=(Preset("repdistiller", "RepDistiller script, CIFAR-100", "read", weight=50.0),),
    default="repdistiller",
    weight_factor=0.1,
    placement="levels",
)
