"""Record of :mod:`policykd.kd.losses.ofd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="ofd",
    title="Overhaul of feature distillation",
    paper="Heo, Kim, Yun, Park, Kwak, Choi: A Comprehensive Overhaul of Feature Distillation",
    year=2019,
    venue="ICCV",
    family="feature",
    rank=8,
    needs=("features",),
    equation="sum (s - t')^2 unless s <= t' <= 0, t' = max(t, E[t | t < 0]), levels weighted 2^(l - n)",
    loss="policykd.kd.losses.ofd:OFD",
    deviations=("whether the teacher's batch norms use batch statistics is the caller's choice",),
    presets=(Preset("authors", "the authors' code", "read", weight=0.001),),
    default="authors",
    placement="preactivations_with_norms",
    trainable=True,
)
