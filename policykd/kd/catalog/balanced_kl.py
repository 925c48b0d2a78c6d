"""Record of :mod:`policykd.kd.losses.balanced_kl`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo

INFO = LossInfo(
    name="balanced_kl",
    title="Balanced forward and reverse divergence",
    paper="Amara, Sepahvand, Meyer, Gross, Clark: BD-KD: Balancing the Divergences for Online Knowledge Distillation",
    year=2022,
    venue="arXiv 2212.12965",
    family="response",
    needs=("logits",),
    equation="T^2 (w_F KL(p_t || p_s) + w_R KL(p_s || p_t)), weights from the entropies at T = 1",
    loss="policykd.kd.losses.balanced_kl:BalancedKL",
    deviations=("only the abstract was readable: the rule for the weights is a reconstruction",),
)
