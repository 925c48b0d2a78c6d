"""Record of :mod:`policykd.kd.losses.similarity_keeping`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="similarity_keeping",
    title="Similarity-keeping distillation",
    paper="Huang, Chen, Wei: Enhancing Low-Density EEG-Based Brain-Computer Interfacing with Similarity-Keeping "
    "Knowledge Distillation",
    year=2024,
    venue="IEEE TETCI",
    family="relational",
    needs=("features",),
    equation="||G_t - G_s||_F^2 / B^2, G the mean over channels of correlations in time",
    loss="policykd.kd.losses.similarity_keeping:SimilarityKeeping",
    presets=(Preset("sk_kd", "system sk_kd on generated electrodes", "ours", weight=10.0),),
    default="sk_kd",
    placement="last_map",
    batch_coupled=True,
)
