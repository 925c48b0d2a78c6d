"""Record of :mod:`policykd.kd.losses.mse`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo

INFO = LossInfo(
    name="mse",
    title="Squared error of values",
    paper="no single source; see Saputra et al.: Distilling Knowledge From a Deep Pose Regressor Network",
    year=2019,
    venue="ICCV",
    family="response",
    needs=("logits",),
    equation="mean_d (s_d - t_d)^2",
    loss="policykd.kd.losses.mse:MSE",
    placement="other_outputs",
)
