"""Record of :mod:`policykd.kd.losses.binary_kd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo

INFO = LossInfo(
    name="binary_kd",
    title="Distillation of independent labels",
    paper="Chang, Kao, Sun, Wang: Intra-Utterance Similarity Preserving Knowledge Distillation for Audio Tagging",
    year=2020,
    venue="Interspeech",
    family="response",
    needs=("logits",),
    equation="mean over labels of BCE(sigmoid(z_s / T), sigmoid(z_t / T))",
    loss="policykd.kd.losses.binary_kd:BinaryKD",
)
