"""Record of :mod:`policykd.kd.losses.ickd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="ickd",
    title="Inter-channel correlation",
    paper="Liu, Huang, Lin, Xie et al.: Exploring Inter-Channel Correlation for Diversity-preserved KD",
    year=2021,
    venue="ICCV",
    family="feature",
    rank=10,
    needs=("features",),
    equation="||G_s - G_t||_F^2 / C^2, G = F F' over channels",
    loss="policykd.kd.losses.ickd:ICKD",
    variants={
        "paper": "raw Gram matrices [recalled]",
        "code": "rows divided by their norm, sum of squares / C",
    },
    deviations=("without the grid version for dense prediction",),
    presets=(
        Preset("code", "ports of the authors' code", "read", weight=2.5, kd_weight=1.0, options={"variant": "code"}),
    ),
    default="code",
    placement="last_map_connected",
    trainable=True,
)
