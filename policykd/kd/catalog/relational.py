"""Losses that compare the samples of a batch, or a sample with a memory."""

from policykd.kd.catalog.record import Method, Preset

_REP = "RepDistiller script, CIFAR-100"

METHODS = (
    Method(
        name="dist",
        title="DIST, relations between and within samples",
        paper="Huang, You, Wang, Qian, Xu: Knowledge Distillation from A Stronger Teacher",
        year=2022,
        venue="NeurIPS",
        family="relational",
        needs=("logits",),
        equation="T^2 [w_b (1 - mean_i rho(rows)) + w_c (1 - mean_c rho(columns))], rho = Pearson",
        loss="DIST",
        variants={"paper": "exact correlation", "code": "1e-8 added to the product of the norms"},
        deviations=("T^2 is the code's, the paper has none [recalled]", "a constant row or column has correlation 0"),
        presets=(
            Preset(
                "authors", "the authors' code, CIFAR-100", "read", 2.0, options={"temperature": 4.0, "variant": "code"}
            ),
        ),
        batch_coupled=True,
    ),
    Method(
        name="mlkd",
        title="Multi-level logit distillation",
        paper="Jin, Wang, Lin: Multi-Level Logit Distillation",
        year=2023,
        venue="CVPR",
        family="relational",
        needs=("logits",),
        equation="sum_T [T^2 KL + ||P_t P_t' - P_s P_s'||^2 / B + ||P_t' P_t - P_s' P_s||^2 / C]",
        loss="MLKD",
        deviations=(
            "without the masks, which in the code act as a factor on an averaged number",
            "one view a call; the strongly augmented one is a second call",
        ),
        presets=(
            Preset(
                "authors", "the authors' code, CIFAR-100, its weight per term and one of two views", "read", 0.9, 0.1
            ),
        ),
        batch_coupled=True,
    ),
    Method(
        name="sp",
        title="Similarity-preserving distillation",
        paper="Tung, Mori: Similarity-Preserving Knowledge Distillation",
        year=2019,
        venue="ICCV",
        family="relational",
        needs=("features",),
        equation="||G_s - G_t||_F^2 / B^2, G = Q Q' with unit rows",
        loss="SP",
        presets=(
            Preset("repdistiller", _REP, "read", 3000.0),
            Preset("paper_cifar10", "the paper, CIFAR-10", "recalled", 3000.0),
            Preset("paper_cinic10", "the paper, CINIC-10", "recalled", 2000.0),
        ),
        batch_coupled=True,
    ),
    Method(
        name="cc",
        title="Correlation congruence",
        paper="Peng, Jin, Li, Liu, Wu, Liu, Zhou, Zhang: Correlation Congruence for Knowledge Distillation",
        year=2019,
        venue="ICCV",
        family="relational",
        needs=("features",),
        equation="||C_s - C_t||_F^2 / B^2, C_ij = exp(-2g) sum_{p<=P} (2g)^p / p! (f_i' f_j)^p",
        loss="CC",
        variants={
            "paper": "truncated Gaussian kernel on unit vectors",
            "adjacent": "product of the errors of neighboring samples: the benchmark code, not the paper's equation",
        },
        deviations=("kernels rbf (exact) and bilinear are offered too",),
        presets=(
            Preset("repdistiller", _REP, "read", 0.02, options={"variant": "adjacent"}),
            Preset("paper", "the paper", "recalled", 0.003, 0.0, 1.0, options={"gamma": 0.4, "order": 2}),
        ),
        batch_coupled=True,
    ),
    Method(
        name="rkd",
        title="Relational knowledge distillation",
        paper="Park, Kim, Lu, Cho: Relational Knowledge Distillation",
        year=2019,
        venue="CVPR",
        family="relational",
        needs=("features",),
        equation="w_d mean huber(d_s - d_t) + w_a mean huber(cos_s - cos_t), d = distances / their mean",
        loss="RKD",
        deviations=("means over all entries, the diagonal included, as in the code; the paper sums over tuples",),
        presets=(Preset("repdistiller", _REP, "read", options={"distance_weight": 25.0, "angle_weight": 50.0}),),
        batch_coupled=True,
    ),
    Method(
        name="pkt",
        title="Probabilistic knowledge transfer",
        paper="Passalis, Tefas: Learning Deep Representations with Probabilistic Knowledge Transfer",
        year=2018,
        venue="ECCV",
        family="relational",
        needs=("features",),
        equation="mean_ij P_t log(P_t / P_s), P = row-normalized (cos + 1) / 2",
        loss="PKT",
        variants={
            "code": "mean over all B^2 entries, diagonal included",
            "paper": "row sums without the diagonal [recalled]",
        },
        deviations=("eps 1e-7 beside norms and probabilities, as in the code",),
        presets=(Preset("repdistiller", _REP, "read", 30000.0),),
        batch_coupled=True,
    ),
    Method(
        name="crd",
        title="Contrastive representation distillation",
        paper="Tian, Krishnan, Isola: Contrastive Representation Distillation",
        year=2020,
        venue="ICLR",
        family="contrastive",
        needs=("features", "indices"),
        equation="-[log h_0 + sum_k log(1 - h_k)] on both sides, h = o / (o + K / N), o = exp(v' m / T) / Z",
        loss="CRD",
        variants={
            "fixed_z": "Z from the first batch, then kept: the code, and all published numbers",
            "paper": "Z = 1",
        },
        deviations=(
            "log space instead of 1e-7 in the denominators",
            "negatives drawn with replacement, as a function of seed, sample and visit",
            "banks are updated between steps and exchanged between processes",
        ),
        presets=(
            Preset(
                "repdistiller",
                _REP,
                "read",
                0.8,
                options={"dim": 128, "negatives": 16384, "temperature": 0.07, "momentum": 0.5, "normalizer": "fixed_z"},
            ),
            Preset(
                "small_data",
                "digits, 100 to 1000 samples",
                "ours",
                0.8,
                options={"dim": 16, "negatives": 64, "temperature": 0.1},
            ),
        ),
        stateful=True,
        trainable=True,
    ),
)
