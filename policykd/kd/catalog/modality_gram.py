"""Record of :mod:`policykd.kd.losses.modality_gram`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo

INFO = LossInfo(
    name="modality_gram",
    title="Gram matrix across modalities",
    paper="Liu: Multi-Modality Distillation via Learning the teacher's modality-level Gram Matrix",
    year=2021,
    venue="arXiv 2112.11447",
    family="relational",
    needs=("features",),
    equation="||G_t - G_s||_F^2 / M^2 per sample, G the cosines between modalities",
    loss="policykd.kd.losses.modality_gram:ModalityGram",
    variants={
        "per_sample": "cosines of each sample's embeddings",
        "off_diagonal": "without the diagonal",
        "batch": "embeddings of the whole batch side by side, one value",
        "raw": "lengths left in, divided by the width",
        "probability": "KL of the rows' softmax",
    },
    deviations=("only the abstract was readable: formula, normalization and variants are ours",),
    placement="last_map_places",
)
