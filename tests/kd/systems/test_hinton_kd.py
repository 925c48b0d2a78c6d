"""Hinton's loss against worked numbers; bias correction, shortened schedules and ESKD by what they do."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from policykd.kd import functional as kf
from policykd.kd.ensembles import ensemble_logits
from policykd.kd.experiments.system import Fit, plain_kd
from policykd.kd.networks import MLP
from policykd.kd.systems.hinton_kd import EXPERIMENT, HintonKDRecipe, early_stopped, shortened
from policykd.kd.training.batches import Batch
from policykd.kd.training.config import OptimizerConfig, SchedulerConfig, TrainConfig
from policykd.kd.training.loop import distillation, minimize, seeded

Z = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.double)  # student
V = torch.tensor([[2.0, 1.0, 4.0]], dtype=torch.double)  # teacher
LABEL = torch.tensor([2])
TABLE = [
    (1.0, (0.114195, 0.042010, 0.843795), (0.090031, 0.244728, 0.665241), 0.153740, 0.153740,
     (-0.024165, 0.202718, -0.178554)),
    (4.0, (0.291756, 0.227220, 0.481024), (0.254275, 0.326496, 0.419229), 0.023891, 0.382250,
     (-0.149923, 0.397104, -0.247181)),
    (20.0, (0.327182, 0.311225, 0.361592), (0.316812, 0.333056, 0.350132), 0.001085, 0.434017,
     (-0.207397, 0.436607, -0.229209)),
]  # fmt: skip


class Fixed(nn.Module):
    """Gives one row of logits whatever goes in, and counts its calls."""

    def __init__(self, logits):
        super().__init__()
        self.logits, self.calls = nn.Parameter(logits.clone()), 0

    def forward(self, x):
        self.calls += 1
        return self.logits.expand(len(x), -1)


BATCH = Batch(torch.zeros(1, 1), LABEL, torch.tensor([0]), (1,))


def loss(student=None, teacher=None, **weights):
    return distillation(student or Fixed(Z), teacher or Fixed(V), **weights)(BATCH, 0)


def gradient(z, **options):
    z = z.clone().requires_grad_()
    kf.kd(z, V, **options).backward()
    return z.grad


@pytest.mark.parametrize(("temperature", "p", "q", "kl", "scaled", "slope"), TABLE)
def test_the_divergence_has_the_worked_values(temperature, p, q, kl, scaled, slope):
    torch.testing.assert_close((V / temperature).softmax(1)[0].tolist(), list(p), atol=1e-6, rtol=0)
    torch.testing.assert_close((Z / temperature).softmax(1)[0].tolist(), list(q), atol=1e-6, rtol=0)
    assert float(kf.kd(Z, V, temperature=temperature, scale_t2=False)) == pytest.approx(kl, abs=1e-6)
    assert float(kf.kd(Z, V, temperature=temperature)) == pytest.approx(scaled, abs=1e-6)
    assert gradient(Z, temperature=temperature)[0].tolist() == pytest.approx(slope, abs=1e-6)


def test_the_whole_loss_has_the_worked_value():
    assert loss(temperature=4.0, kd_weight=0.0, ce_weight=1.0).item() == pytest.approx(0.407606, abs=1e-6)
    assert loss(temperature=4.0, kd_weight=0.9, ce_weight=0.1).item() == pytest.approx(0.384786, abs=1e-6)
    assert float(kf.kd(Z, V, temperature=4.0, variant="element_mean")) == pytest.approx(0.127417, abs=1e-6)


def test_at_a_high_temperature_it_matches_centered_logits():
    value = float(kf.kd(Z, V, temperature=1000.0))
    assert value == pytest.approx(0.444247, abs=1e-6)
    centered = (Z - Z.mean()) - (V - V.mean())
    limit = float(centered.square().sum()) / (2 * 3)
    assert limit == pytest.approx(4 / 9)
    assert value == pytest.approx(limit, abs=3e-4)
    expected = (centered / 3)[0].tolist()
    assert expected == pytest.approx((-2 / 9, 4 / 9, -2 / 9))
    assert gradient(Z, temperature=1000.0)[0].tolist() == pytest.approx(expected, abs=3e-4)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_invariances(temperature):
    value = kf.kd(Z, V, temperature=temperature)
    torch.testing.assert_close(kf.kd(Z + 7.0, V, temperature=temperature), value)
    torch.testing.assert_close(kf.kd(Z, V - 3.0, temperature=temperature), value)
    assert float(kf.kd(V, V, temperature=temperature)) == 0.0
    slope = gradient(Z, temperature=temperature)
    assert float(slope.sum()) == pytest.approx(0.0, abs=1e-12)
    turn = torch.tensor([2, 0, 1])
    z = Z[:, turn].clone().requires_grad_()
    kf.kd(z, V[:, turn], temperature=temperature).backward()
    torch.testing.assert_close(z.grad, slope[:, turn])


def test_the_scaled_divergence_grows_with_the_temperature_here_and_is_never_negative():
    values = [float(kf.kd(Z, V, temperature=t)) for t in (0.5, 1, 2, 4, 8, 20, 1000)]
    assert values[1:] == sorted(values[1:])
    assert min(values) > 0


def test_without_the_divergence_it_is_cross_entropy_bit_for_bit():
    student, teacher = Fixed(Z), Fixed(V)
    value = loss(student, teacher, temperature=4.0, kd_weight=0.0, ce_weight=1.0)
    assert torch.equal(value, F.cross_entropy(Z, LABEL))
    assert teacher.calls == 0
    value.backward()
    z = Z.clone().requires_grad_()
    F.cross_entropy(z, LABEL).backward()
    assert torch.equal(student.logits.grad, z.grad)


def test_eskd_is_distillation_and_then_cross_entropy_without_the_teacher():
    student, teacher = Fixed(Z), Fixed(V)
    switched = early_stopped(plain_kd(teacher, EXPERIMENT.config), stop_epoch=2)
    values = [switched(student, BATCH, epoch) for epoch in range(4)]
    assert [v.item() for v in values[:2]] == pytest.approx([0.384786] * 2, abs=1e-6)
    assert all(torch.equal(v, F.cross_entropy(Z, LABEL)) for v in values[2:])
    assert teacher.calls == 2


def test_the_eskd_switch_resets_neither_optimizer_nor_schedule():
    """Against a loop by hand over one optimizer whose rate falls across the switch."""
    x, y = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 3
    teacher = seeded(lambda: MLP((4,), (5,), classes=3), 0, "teacher").eval()
    config = TrainConfig(
        epochs=4,
        batch_size=20,
        optimizer=OptimizerConfig(lr=0.5),
        scheduler=SchedulerConfig("multistep", milestones=(1, 3), gamma=0.5),
    )
    student = seeded(lambda: MLP((4,), (5,), classes=3), 0, "student")
    switched = early_stopped(plain_kd(teacher, EXPERIMENT.config), 2)
    minimize(lambda batch, epoch: switched(student, batch, epoch), student, (x, y), config)

    by_hand = seeded(lambda: MLP((4,), (5,), classes=3), 0, "student")
    optimizer = torch.optim.SGD(by_hand.parameters(), 0.5, momentum=0.9, weight_decay=5e-4)
    for epoch, rate in enumerate((0.5, 0.25, 0.25, 0.125)):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        hard = F.cross_entropy(by_hand(x), y)
        with torch.no_grad():
            taught = (teacher(x) / 4).softmax(1)
        soft_term = 16 * F.kl_div((by_hand(x) / 4).log_softmax(1), taught, reduction="batchmean")
        (0.1 * hard + 0.9 * soft_term if epoch < 2 else hard).backward()
        optimizer.step()
    for own, other in zip(student.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(own, other)


def test_a_shortened_schedule_drops_in_proportion():
    """200 epochs with a drop every 60 become 50 with a drop every 15."""
    long = TrainConfig(epochs=200, scheduler=SchedulerConfig("multistep", milestones=(60, 120, 180), warmup=8))
    short = shortened(long, 50)
    assert short == replace(
        long, epochs=50, scheduler=replace(long.scheduler, milestones=(15.0, 30.0, 45.0), warmup=2.0)
    )
    for share in (0.1, 0.4, 0.7, 0.95):
        assert short.scheduler.factor(50 * share, 50) == long.scheduler.factor(200 * share, 200)
    assert shortened(long, 200) == long
    with pytest.raises(ValueError, match="epochs"):
        shortened(long, 0)


def test_the_ensemble_is_the_mean_of_distributions_or_of_logits():
    members = torch.stack([Z, V])
    for temperature in (1.0, 8.0):
        soft = ensemble_logits(members, [1, 1], temperature=temperature)
        expected = ((Z / temperature).softmax(1) + (V / temperature).softmax(1)) / 2
        torch.testing.assert_close((soft / temperature).softmax(1), expected)
    torch.testing.assert_close(ensemble_logits(members, [1, 1], temperature=8.0, softening="logits"), (Z + V) / 2)


@pytest.mark.parametrize(
    "change",
    [
        {"kd_weight": -1.0},
        {"temperature": 0.0},
        {"missing_temperature": 0.0},
        {"early_epochs": ()},
        {"early_epochs": (120,)},
        {"missing_class": 10},
        {"shares": (0.5, 0.5)},
    ],
)
def test_configurations_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match=r"must|names|give 3"):
        HintonKDRecipe(**change)


def test_a_small_cell_has_every_arm_and_repeats():
    tiny = HintonKDRecipe(
        teacher=Fit((16,), epochs=3),
        student=Fit((16,), epochs=3, lr=1e-2),
        few_labels_student=Fit((32,), epochs=3, lr=1e-2),
        missing_class_student=Fit((32,), epochs=1, lr=1e-2),
        early_epochs=(1, 2),
        eskd_epochs=1,
    )
    cell = EXPERIMENT.run(0, tiny)
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(0, tiny) == cell
    early = cell["student, early-stopped teacher"]["accuracy"]
    assert early in {cell[f"student, {epochs}-epoch teacher"]["accuracy"] for epochs in (1, 2)}
    assert cell["missing class, CE"]["recall"] == 0.0
    assert math.isfinite(cell["missing class, KD, bias"]["accuracy"])
