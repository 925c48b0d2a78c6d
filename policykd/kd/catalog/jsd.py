"""Record of :mod:`policykd.kd.losses.jsd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="jsd",
    title="Generalized Jensen-Shannon divergence",
    paper="Agarwal, Vieillard, Zhou et al.: On-Policy Distillation of Language Models (GKD)",
    year=2024,
    venue="ICLR",
    family="response",
    rank=7,
    needs=("logits",),
    equation="b KL(p_t || m) + (1 - b) KL(p_s || m), m = b p_t + (1 - b) p_s",
    loss="policykd.kd.losses.jsd:JSD",
    deviations=(
        "b = 0 and b = 1 are the forward and the reverse KL; normalize=True makes the loss continuous there",
        "T^2 is applied unless scale_t2=False; the popular code has none",
    ),
    presets=(Preset("trl", "TRL's GKD trainer", "recalled", options={"beta": 0.5, "scale_t2": False}),),
    default="trl",
    tuned="temperature",
)
