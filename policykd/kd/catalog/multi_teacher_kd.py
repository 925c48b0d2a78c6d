"""Record of :mod:`policykd.kd.losses.multi_teacher_kd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo

INFO = LossInfo(
    name="multi_teacher_kd",
    title="Confidence-aware multi-teacher distillation",
    paper="Zhang, Chen, Wang: Confidence-Aware Multi-Teacher Knowledge Distillation",
    year=2022,
    venue="ICASSP",
    family="response",
    needs=("logits", "targets"),
    equation="sum_k w_k T^2 KL(p_k || p_s), w_k = (1 - softmax_k(CE_k)) / (K - 1)",
    loss="policykd.kd.losses.multi_teacher_kd:MultiTeacherKD",
    deviations=("the released code divides by the number of teachers once more (reference_scale)",),
    placement="logits_stacked",
)
