"""Teacher assistants: paths, what a hop leaves alone, and the identities between paths."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from policykd.errors import ConfigError
from policykd.kd import functional as kf
from policykd.kd.networks import MLP
from policykd.kd.systems.takd import EXPERIMENT, Hop, TAKDConfig, best_path, paths, run, train_path
from policykd.kd.training.config import OptimizerConfig, TrainConfig
from policykd.kd.training.loop import distil, seeded, train_classifier

X = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
DATA = (X, torch.arange(40) % 3)
TRAINING = TrainConfig(epochs=3, batch_size=16, seed=1, optimizer=OptimizerConfig(lr=0.1))


def hop(width, key="net", **options):
    return Hop(lambda: seeded(lambda: MLP((4,), (width,), classes=3), 0, key), TRAINING, **options)


def same(first, second):
    return all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize(("sizes", "count"), [((10, 2), 1), ((10, 4, 2), 2), ((10, 8, 6, 4, 2), 8)])
def test_there_are_as_many_paths_as_subsets_of_what_lies_between(sizes, count):
    found = paths(sizes)
    assert len(found) == len(set(found)) == count == 2 ** (len(sizes) - 2)
    for path in found:
        assert (path[0], path[-1]) == (sizes[0], sizes[-1])
        assert all(larger > smaller for larger, smaller in pairwise(path))
    assert [len(path) for path in found] == sorted(len(path) for path in found)


def test_the_loss_of_a_hop_has_the_worked_value():
    z, v = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[2.0, 1.0, 4.0]])
    soft = float(kf.kd(z, v, temperature=4.0))
    assert soft == pytest.approx(0.382250, abs=1e-6)
    assert float(kf.kd(z, v, temperature=4.0, variant="element_mean")) == pytest.approx(0.127417, abs=1e-6)
    hard = float(torch.nn.functional.cross_entropy(z, torch.tensor([2])))
    assert 0.1 * hard + 0.9 * soft == pytest.approx(0.384786, abs=1e-6)


def test_a_path_of_one_is_training_without_a_teacher():
    [alone] = train_path([hop(5)], DATA)
    assert same(alone, train_classifier(hop(5).make(), DATA, TRAINING))


def test_a_path_of_two_is_ordinary_distillation():
    teacher, student = train_path([hop(9, "teacher"), hop(5, temperature=3.0, kd_weight=0.7)], DATA)
    with torch.no_grad():
        logits = teacher(X)
    weights = {"temperature": 3.0, "kd_weight": 0.7, "ce_weight": 1 - 0.7}
    assert same(student, distil(hop(5).make(), logits, DATA, TRAINING, **weights))


def test_an_assistant_that_copies_the_teacher_changes_nothing():
    [teacher] = train_path([hop(9, "teacher")], DATA)
    copy = seeded(lambda: MLP((4,), (9,), classes=3), 0, "teacher")
    copy.load_state_dict(teacher.state_dict())
    assert same(hop(5).train(teacher, DATA), hop(5).train(copy.eval(), DATA))


def test_a_hop_starts_afresh_and_leaves_the_networks_before_it_alone():
    hops = [hop(9, "a"), hop(7, "b"), hop(5, "c")]
    whole = train_path(hops, DATA)
    for length in (1, 2):
        for before, after in zip(train_path(hops[:length], DATA), whole, strict=False):
            assert same(before, after)
    assert all(not network.training for network in whole)
    assert len({id(p) for network in whole for p in network.parameters()}) == 3 * 4


def test_every_hop_has_its_own_temperature_and_weight():
    [teacher] = train_path([hop(9, "teacher")], DATA)
    students = [
        hop(5, temperature=t, kd_weight=w).train(teacher, DATA) for t, w in ((4.0, 0.9), (1.0, 0.9), (4.0, 0.5))
    ]
    assert not same(students[0], students[1])
    assert not same(students[0], students[2])
    label_free = hop(5, kd_weight=1.0)
    assert same(label_free.train(teacher, DATA), label_free.train(teacher, (X, DATA[1].flip(0))))


def test_the_best_path_keeps_the_best_network_of_every_size():
    """Networks are numbers: a hop from t to size s gives t - (t_size - s)**2, so that small steps lose least."""
    trained = []

    def train(model, size):
        trained.append((model[0], size))
        return size, model[1] - (model[0] - size) ** 2

    path, model = best_path([10, 8, 6, 4, 2], (10, 100.0), train, score=lambda m: m[1])
    assert path == (10, 8, 6, 4, 2)
    assert model == (2, 100.0 - 4 * 4)
    assert len(trained) == 5 * 4 // 2
    direct, _ = best_path([10, 8, 2], (10, 100.0), lambda m, s: (s, m[1] - 1), score=lambda m: m[1])
    assert direct == (10, 2)  # every hop costs the same: the fewest hops win


@pytest.mark.parametrize(
    "call",
    [
        lambda: train_path([], DATA),
        lambda: paths([10]),
        lambda: best_path([10], None, lambda m, s: m, score=lambda m: 0.0),
        lambda: hop(5, kd_weight=1.1),
    ],
)
def test_paths_that_lead_nowhere_are_refused(call):
    with pytest.raises(ConfigError):
        call()


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(ValueError, match="temperature"):
        hop(5, temperature=0.0)


def test_a_small_cell_has_every_arm_and_repeats():
    tiny = TAKDConfig(teacher_hidden=(8,), assistant_hidden=(6,), epochs=1)
    cell = run(0, tiny)
    EXPERIMENT.check_cell(cell)
    assert run(0, tiny) == cell
    assert "kl_to_source" not in cell["student, no teacher"]


def test_without_the_divergence_all_students_are_one():
    """Pairing: at kd_weight 0 every arm of the student is the same network, trained on the same batches."""
    cell = run(1, TAKDConfig(teacher_hidden=(8,), assistant_hidden=(6,), epochs=1, kd_weight=0.0))
    arms = ("student, no teacher", "student, direct", "student, assistant", "student, assistant without teacher")
    assert len({cell[arm]["accuracy"] for arm in arms}) == 1
    assert cell["assistant"]["accuracy"] == cell["assistant, no teacher"]["accuracy"]


def test_networks_may_be_any_module():
    linear = Hop(lambda: nn.Linear(4, 3), TRAINING)
    assert isinstance(linear.train(None, DATA), nn.Linear)
