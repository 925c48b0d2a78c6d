"""Record of :mod:`policykd.kd.losses.cc`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="cc",
    title="Correlation congruence",
    paper="Peng, Jin, Li, Liu, Wu, Liu, Zhou, Zhang: Correlation Congruence for Knowledge Distillation",
    year=2019,
    venue="ICCV",
    family="relational",
    rank=4,
    needs=("features",),
    equation="||C_s - C_t||_F^2 / B^2, C_ij = exp(-2g) sum_{p<=P} (2g)^p / p! (f_i' f_j)^p",
    loss="policykd.kd.losses.cc:CC",
    variants={
        "paper": "truncated Gaussian kernel on unit vectors",
        "adjacent": "product of the errors of neighboring samples: the benchmark code, not the paper's equation",
    },
    deviations=("kernels rbf (exact) and bilinear are offered too",),
    presets=(
        Preset("repdistiller", "RepDistiller script, CIFAR-100", "read", weight=0.02, options={"variant": "adjacent"}),
        Preset(
            "paper",
            "the paper",
            "recalled",
            weight=0.003,
            ce_weight=0.0,
            kd_weight=1.0,
            options={"gamma": 0.4, "order": 2},
        ),
    ),
    default="repdistiller",
    placement="pooled_projected",
    batch_coupled=True,
)
