"""Record of :mod:`policykd.kd.losses.ofa_kd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="ofa_kd",
    title="One-for-all distillation",
    paper="Hao, Guo, Han, Tang, Hu, Wang, Xu: One-for-All: Bridge the Gap Between Heterogeneous Architectures",
    year=2023,
    venue="NeurIPS",
    family="feature",
    needs=("features", "targets"),
    equation="-sum_c [(p_c + [c = y])^g - [c = y]] log q_c at the head of every stage",
    loss="policykd.kd.losses.ofa_kd:OFAKD",
    deviations=("one convolution per head instead of several for early stages",),
    presets=(Preset("authors", "the authors' code, CIFAR-100", "read", weight=1.0, kd_weight=1.0),),
    default="authors",
    placement="policykd.kd.benchmark.connected_placements:STAGES",
    trainable=True,
)
