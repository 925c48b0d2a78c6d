"""Record of :mod:`policykd.kd.losses.gaussian_kl`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo

INFO = LossInfo(
    name="gaussian_kl",
    title="Divergence of predicted Gaussians",
    paper="no single source; Kullback, Leibler: On Information and Sufficiency, for diagonal Gaussians",
    year=1951,
    venue="Ann. Math. Statist.",
    family="response",
    needs=("logits",),
    equation="KL(N(m_t, s_t) || N(m_s, s_s)), summed over values",
    loss="policykd.kd.losses.gaussian_kl:GaussianKL",
    placement="other_outputs",
)
