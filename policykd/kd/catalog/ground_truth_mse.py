"""Record of :mod:`policykd.kd.losses.ground_truth_mse`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo

INFO = LossInfo(
    name="ground_truth_mse",
    title="Squared error to a mix of labels and teacher",
    paper="Borup, Andersen: Even your Teacher Needs Guidance",
    year=2021,
    venue="NeurIPS",
    family="response",
    needs=("logits", "targets"),
    equation="w MSE(p_s, onehot) + (1 - w) MSE(p_s, p_t)",
    loss="policykd.kd.losses.ground_truth_mse:GroundTruthMSE",
)
