"""Record of :mod:`policykd.kd.losses.cwtm`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo

INFO = LossInfo(
    name="cwtm",
    title="Confidence weighted by the teacher's maximum",
    paper="Furlanello, Lipton, Tschannen, Itti, Anandkumar: Born-Again Neural Networks",
    year=2018,
    venue="ICML",
    family="response",
    rank=5,
    needs=("logits", "targets"),
    equation="sum_i w_i CE_i, w_i = max_c p_t[i] / sum_j max_c p_t[j]",
    loss="policykd.kd.losses.cwtm:CWTM",
    deviations=("the control experiment on weights alone; a generation itself is kd at temperature 1",),
    replaces_cross_entropy=True,
    batch_coupled=True,
)
