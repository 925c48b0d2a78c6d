"""Record of :mod:`policykd.kd.losses.gaussian_nll`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo

INFO = LossInfo(
    name="gaussian_nll",
    title="Gaussian negative log-likelihood",
    paper="Nix, Weigend: Estimating the Mean and Variance of the Target Probability Distribution",
    year=1994,
    venue="ICNN",
    family="baseline",
    needs=("logits", "targets"),
    equation="sum_d log s_d + (y_d - m_d)^2 / (2 s_d^2) + log(2 pi) / 2",
    loss="policykd.kd.losses.gaussian_nll:GaussianNLL",
    placement="other_outputs",
    replaces_cross_entropy=True,
)
