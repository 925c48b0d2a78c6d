"""Record of :mod:`policykd.kd.losses.iusp`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="iusp",
    title="Intra-utterance similarity preservation",
    paper="Chang, Kao, Sun, Wang: Intra-Utterance Similarity Preserving Knowledge Distillation for Audio Tagging",
    year=2020,
    venue="Interspeech",
    family="relational",
    needs=("features",),
    equation="||G_s - G_t||_F^2 / t^2 over the frames of a clip, G = A A' with unit rows",
    loss="policykd.kd.losses.iusp:IUSP",
    deviations=("the full text was not available: normalization is that of sp; the mean over clips is ours",),
    presets=(Preset("iusp", "system iusp on generated clips", "ours", weight=100.0),),
    default="iusp",
    placement="last_map_places",
)
