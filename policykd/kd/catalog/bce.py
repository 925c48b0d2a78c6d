"""Record of :mod:`policykd.kd.losses.bce`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo

INFO = LossInfo(
    name="bce",
    title="Binary cross-entropy",
    paper="no single source; binary relevance, see Tsoumakas, Katakis: Multi-Label Classification: An Overview",
    year=2007,
    venue="IJDWM",
    family="baseline",
    needs=("logits", "targets"),
    equation="mean_c -(w_c q_c log p_c + (1 - q_c) log(1 - p_c)), p = sigmoid(z)",
    loss="policykd.kd.losses.bce:BCE",
    placement="other_outputs",
    replaces_cross_entropy=True,
)
