"""Record of :mod:`policykd.kd.losses.srd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="srd",
    title="Simple recipe distillation",
    paper="Miles, Mikolajczyk: Understanding the Role of the Projector in Knowledge Distillation",
    year=2024,
    venue="AAAI",
    family="feature",
    needs=("features",),
    equation="log(eps + sum over batch and features of |s - t|^4), both standardized over the batch",
    loss="policykd.kd.losses.srd:SRD",
    deviations=("eps in the logarithm", "standardization by the statistics of the batch in every mode"),
    presets=(Preset("torchdistill", "torchdistill, ImageNet; with KD at weight 1", "read", weight=2.0, kd_weight=1.0),),
    default="torchdistill",
    placement="policykd.kd.benchmark.connected_placements:POOLED",
    trainable=True,
    batch_coupled=True,
)
