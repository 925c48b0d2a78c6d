"""Record of :mod:`policykd.kd.losses.dist_plus`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="dist_plus",
    title="DIST+, relations between channels and places",
    paper="Huang, You, Wang, Qian, Xu: DIST+: Knowledge Distillation From a Stronger Adaptive Teacher",
    year=2025,
    venue="TPAMI",
    family="feature",
    needs=("features",),
    equation="w_c mean_p (1 - rho over channels) + w_p (1 - rho over places of the channel sum)",
    loss="policykd.kd.losses.dist_plus:DISTPlus",
    deviations=(
        "the part on feature maps; add DIST on the logits",
        "places are compared within a sample, a port compares samples at a place",
        "the teacher is not trained along",
    ),
    presets=(Preset("torchdistill", "torchdistill's defaults", "read"),),
    default="torchdistill",
    placement="last_map_connected",
    trainable=True,
)
