"""Record of :mod:`policykd.kd.losses.pkt`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="pkt",
    title="Probabilistic knowledge transfer",
    paper="Passalis, Tefas: Learning Deep Representations with Probabilistic Knowledge Transfer",
    year=2018,
    venue="ECCV",
    family="relational",
    rank=6,
    needs=("features",),
    equation="mean_ij P_t log(P_t / P_s), P = row-normalized (cos + 1) / 2",
    loss="policykd.kd.losses.pkt:PKT",
    variants={
        "code": "mean over all B^2 entries, diagonal included",
        "paper": "row sums without the diagonal [recalled]",
    },
    deviations=("eps 1e-7 added to norms and probabilities, as in the code",),
    presets=(Preset("repdistiller", "RepDistiller script, CIFAR-100", "read", weight=30000.0),),
    default="repdistiller",
    placement="pooled",
    batch_coupled=True,
)
