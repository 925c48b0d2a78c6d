"""Record of :mod:`policykd.kd.losses.vid`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="vid",
    title="Variational information distillation",
    paper="Ahn, Hu, Damianou, Lawrence, Dai: Variational Information Distillation for Knowledge Transfer",
    year=2019,
    venue="CVPR",
    family="feature",
    rank=4,
    needs=("features",),
    equation="1/2 mean [(t - mu(s))^2 / v_c + log v_c]",
    loss="policykd.kd.losses.vid:VID",
    deviations=("mean over elements instead of a sum",),
    presets=(
        Preset(
            "repdistiller", "RepDistiller script, CIFAR-100", "read", options={"initial_variance": 5.0, "eps": 1e-05}
        ),
    ),
    default="repdistiller",
    placement="levels_one_by_one",
    trainable=True,
)
