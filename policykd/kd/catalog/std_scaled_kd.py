"""Record of :mod:`policykd.kd.losses.std_scaled_kd`.

Lists, help texts and benchmarks read it; it loads no torch and defines no loss.
"""

from policykd.kd.registry import LossInfo, Preset

INFO = LossInfo(
    name="std_scaled_kd",
    title="Logits divided by their standard deviation",
    paper="Choi, Jeon, Shukla, Turaga: Understanding the Role of Mixup in Knowledge Distillation: An Empirical Study",
    year=2023,
    venue="WACV",
    family="response",
    needs=("logits", "targets"),
    equation="a CE(u, y) + b KL(softmax(w) || softmax(u)), u = z_s / std(z_s), w = z_t / std(z_t)",
    loss="policykd.kd.losses.std_scaled_kd:StdScaledKD",
    deviations=("constant logits stay constant instead of becoming NaN",),
    presets=(
        Preset("mixup_kd", "system mixup_kd on digits; the loss holds its own cross-entropy", "ours", ce_weight=0.0),
    ),
    default="mixup_kd",
)
