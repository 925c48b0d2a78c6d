"""Record of :mod:`policykd.kd.losses.alpha_beta`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="alpha_beta",
    title="Alpha-beta divergence",
    paper="Wang, Yang, Wang, Wang, Li, Wang: ABKD: Pursuing a Proper Allocation of the Probability Mass in KD",
    year=2025,
    venue="ICML",
    family="response",
    needs=("logits",),
    equation="T^2 sum_c [p^(a+b) / (b (a+b)) + q^(a+b) / (a (a+b)) - p^a q^b / (a b)]",
    loss="policykd.kd.losses.alpha_beta:AlphaBeta",
    deviations=("exponents below 0 are refused", "T^2 is an option; the released code has none"),
    presets=(
        Preset(
            "default",
            "KD's temperature and weights with exponents 0.8 and 0.2",
            "ours",
            weight=0.9,
            ce_weight=0.1,
            options={"temperature": 4.0},
        ),
    ),
    default="default",
    tuned="temperature",
)
