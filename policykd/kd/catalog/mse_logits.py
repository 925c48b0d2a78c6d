"""Record of :mod:`policykd.kd.losses.mse_logits`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo

INFO = LossInfo(
    name="mse_logits",
    title="Logit regression",
    paper="Ba, Caruana: Do Deep Nets Really Need to be Deep?",
    year=2014,
    venue="NIPS",
    family="response",
    rank=6,
    needs=("logits",),
    equation="||z_s - z_t||^2 / C",
    loss="policykd.kd.losses.mse_logits:MSELogits",
    variants={
        "code": "mean over classes",
        "paper": "half the sum over classes [recalled]",
        "centered": "sum over classes of the centered difference squared, / 2C: KD at high temperature",
    },
)
