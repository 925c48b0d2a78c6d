"""Each rule of a check is broken alone: a value that breaks one rule is refused, its neighbors are not."""

import dataclasses

import numpy as np
import pytest
import torch

from policykd.errors import ConfigError
from policykd.kd.benchmark.reference import bench_config
from policykd.kd.data.files import DataFileError
from policykd.kd.data.samples import Samples
from policykd.kd.ensembles import ensemble_logits, ensemble_nll, normalized, selected_logits
from policykd.kd.expert_selection import check_capacity_order
from policykd.kd.kernel_self_distillation import KernelSelfDistillation
from policykd.kd.losses import CATKD, CE, FitNet
from policykd.kd.networks import ResNet, create
from policykd.kd.networks.wrn import WideResNet
from policykd.kd.objective import Objective, Outputs
from policykd.kd.objective.teachers import TeacherError, log_probabilities
from policykd.kd.objective.terms import Term
from policykd.kd.shapes import as_levels, check_labels, check_soft_labels, match_size
from policykd.kd.tasks import Split, Task, load, stratified
from policykd.kd.training.averaging import Averaging
from policykd.kd.training.batches import Batches
from policykd.kd.training.config import OptimizerConfig, SchedulerConfig, TrainConfig
from policykd.kd.training.export import export_student, load_weights, save_weights
from policykd.kd.training.samplers import ClassUniformSampler, SuperclassUniformSampler, super_classes
from policykd.kd.training.stacked import distil_side_by_side

X, Y = np.zeros((4, 3, 5), np.float32), np.array([0, 1, 0, 1])
NAN, INF = float("nan"), float("inf")
P = np.full((2, 3, 4), 0.25)
EYE = np.eye(3)
SHIFT = np.array([-0.5, 0.5, 0.0, 0.0])
TWO = torch.eye(2), torch.tensor([0, 1])
LOGITS = torch.zeros(3, 4)
PAIR = Split(torch.zeros(2, 1), torch.tensor([0, 1]))


def samples(**changes):
    fields = {"x": X, "y": Y, "classes": ("a", "b"), "groups": Y, "group_names": ("p", "q"), "channels": tuple("xyz")}
    return Samples(**fields | {"test": Y == 1} | changes)


def arrays(folder, **changes):
    np.savez(folder / "a.npz", **{"x": np.zeros((30, 2)), "y": np.arange(30) % 3} | changes)
    return load("npz", path=folder / "a.npz")


def task(labels, classes=2):
    return Task("t", Split(torch.zeros(2, 1), torch.tensor(labels)), PAIR, PAIR, classes, None, None)


def bench(**changes):
    return dataclasses.replace(bench_config("digits", ("ce", "kd")), **changes)


def weighted(*weights):
    objective = Objective(ce=CE())
    return objective(torch.nn.Linear(2, 4), None, torch.zeros(3, 2), torch.arange(3), weights=torch.tensor(weights))


def side_by_side(count, targets, weights, **options):
    students = [create("mlp", input_shape=(1,), hidden=(2,), classes=2) for _ in range(count)]
    distil_side_by_side(
        students, torch.zeros(targets, 2, 2), PAIR, TrainConfig(1, **options), temperature=1.0, kd_weights=weights
    )


FINE = {
    "samples": samples,
    "samples without extras": lambda: samples(groups=None, group_names=(), test=None, channels=()),
    "vectors": lambda: samples(x=np.zeros((4, 3), np.float32)),
    "pictures": lambda: samples(x=np.zeros((4, 3, 2, 2), np.uint8)),
    "labels at both ends": lambda: task([0, 1]),
    "bench of two seeds": lambda: bench(seeds=2),
    "bench of most seeds": lambda: bench(seeds=10_000),
    "weights of zero": lambda: weighted(0.0, 1.0, 2.0),
    "normalized zeros": lambda: normalized([0.0, 0.0]),
    "kernel": lambda: KernelSelfDistillation(EYE, [1.0, 2.0, 3.0], ridge=1e-6),
    "layouts": lambda: [
        Outputs("BTC"),
        Outputs("BCHW"),
        Outputs("B", kind="regression"),
        Outputs("BC", ignore_index=0),
    ],
    "sgd": lambda: OptimizerConfig(lr=1e-9, weight_decay=0.0),
    "as many parts as samples": lambda: TrainConfig(batch_size=4, micro_batches=4),
    "one step": lambda: TrainConfig(1, 1, checkpoint_epochs=1, checkpoint_steps=1),
    "no decay": lambda: Averaging(decay=0.0),
    "soft labels": lambda: check_soft_labels(torch.tensor([[0.3, 0.7], [0.0, 1.0009]])),
    "soft labels in half precision": lambda: check_soft_labels(torch.tensor([[0.3, 0.705]], dtype=torch.float16)),
    "labels": lambda: check_labels(LOGITS, torch.tensor([0, 3, 1])),
    "levels": lambda: as_levels([LOGITS], [LOGITS], at_least=1),
    "probabilities": lambda: log_probabilities(torch.tensor([[0.0, 1.0], [0.4, 0.6009]])),
    "last member": lambda: selected_logits(torch.zeros(2, 3, 4), torch.tensor([0, 1, 0])),
    "smallest networks": lambda: [ResNet(8), WideResNet(10)],
    "a class in every part": lambda: stratified([0, 0, 1, 1], (0.5, 0.5), 0),
    "side by side": lambda: side_by_side(2, 2, [0.5, 0.0]),
    "samplers": lambda: [
        ClassUniformSampler([0, 0, 1, 1], classes=2, per_class=2),
        SuperclassUniformSampler([0, 1], [0, 0], classes=2, per_class=1),
        super_classes(*TWO, 2, smallest=2),
    ],
    "one pool": lambda: CATKD(pool_size=1),
    "no pool": lambda: CATKD(pool_size=None),
    "capacities": lambda: check_capacity_order([1.0, 1.1]),
    "multistep": lambda: SchedulerConfig("multistep", milestones=(1,)),
    "a single batch": lambda: Batches((torch.zeros(3, 1), torch.zeros(3)), 3, drop_last=True),
}
FAULTS = {
    "doubles": (lambda: samples(x=X.astype(np.float64)), DataFileError),
    "no axes": (lambda: samples(x=np.zeros(4, np.float32)), DataFileError),
    "too many axes": (lambda: samples(x=np.zeros((4, 3, 1, 1, 1), np.float32)), DataFileError),
    "no samples": (lambda: samples(x=X[:0], y=Y[:0]), DataFileError),
    "one value that is not finite": (lambda: samples(x=np.where(np.arange(5) == 2, NAN, X)), DataFileError),
    "fewer labels": (lambda: samples(y=Y[:3]), DataFileError),
    "labels of another type": (lambda: samples(y=Y.astype(np.int32)), DataFileError),
    "a negative label": (lambda: samples(y=Y - 1), DataFileError),
    "a label without a class": (lambda: samples(y=Y + 1), DataFileError),
    "a group without a name": (lambda: samples(groups=Y + 1), DataFileError),
    "a short test part": (lambda: samples(test=(Y == 1)[:3]), DataFileError),
    "a numeric test part": (lambda: samples(test=Y), DataFileError),
    "channels": (lambda: samples(channels=("a", "b")), DataFileError),
    "a label below 0": (lambda: task([-1, 0]), ValueError),
    "a label of C": (lambda: task([0, 2]), ValueError),
    "labels in a split": (lambda: Split(torch.zeros(2, 1), torch.zeros(3)), ValueError),
    "groups in a split": (lambda: Split(torch.zeros(2, 1), torch.zeros(2), torch.zeros(3)), ValueError),
    "one seed": (lambda: bench(seeds=1), ConfigError),
    "too many seeds": (lambda: bench(seeds=10_001), ConfigError),
    "too many candidates": (lambda: bench(tune=16), ConfigError),
    "a method twice": (lambda: bench(methods=("ce", "kd", "ce")), ConfigError),
    "another baseline": (lambda: bench(baseline="sp"), ConfigError),
    "a seed of the training": (lambda: bench(train=TrainConfig(seed=1)), ConfigError),
    "a seed of the teacher's": (lambda: bench(teacher_train=TrainConfig(seed=1)), ConfigError),
    "a negative weight": (lambda: weighted(1.0, -0.5, 1.0), ValueError),
    "a weight that is not finite": (lambda: weighted(1.0, NAN, 1.0), ValueError),
    "an infinite weight": (lambda: weighted(1.0, INF, 1.0), ValueError),
    "fewer weights": (lambda: weighted(1.0, 1.0), ValueError),
    "a negative share": (lambda: normalized([1.0, -0.1]), ConfigError),
    "an infinite share": (lambda: normalized([1.0, INF]), ConfigError),
    "no share": (lambda: normalized([]), ConfigError),
    "a number of shares": (lambda: normalized(1.0), ConfigError),
    "members": (lambda: ensemble_nll(P, [0, 1, 2], [1.0]), ConfigError),
    "probabilities of two axes": (lambda: ensemble_nll(P[0], [0, 1, 2], [1.0]), ConfigError),
    "negative probabilities": (lambda: ensemble_nll(P + SHIFT, [0, 1, 2], [1, 1]), ConfigError),
    "probabilities that sum to more": (lambda: ensemble_nll(1.1 * P, [0, 1, 2], [1, 1]), ConfigError),
    "few labels of an ensemble": (lambda: ensemble_nll(P, [0, 1], [1, 1]), ConfigError),
    "float labels of an ensemble": (lambda: ensemble_nll(P, [0.0, 1.0, 2.0], [1, 1]), ConfigError),
    "low labels of an ensemble": (lambda: ensemble_nll(P, [0, -1, 2], [1, 1]), ConfigError),
    "high labels of an ensemble": (lambda: ensemble_nll(P, [0, 4, 2], [1, 1]), ConfigError),
    "member logits": (lambda: ensemble_logits(torch.zeros(2, 3), [1, 1], temperature=1.0), ConfigError),
    "weights of member logits": (lambda: ensemble_logits(torch.zeros(2, 3, 4), [1], temperature=1.0), ConfigError),
    "fewer members": (lambda: selected_logits(torch.zeros(2, 3, 4), torch.tensor([0, 1])), ValueError),
    "a member below": (lambda: selected_logits(torch.zeros(2, 3, 4), torch.tensor([0, -1, 0])), ValueError),
    "a member above": (lambda: selected_logits(torch.zeros(2, 3, 4), torch.tensor([0, 2, 0])), ValueError),
    "a long kernel": (lambda: KernelSelfDistillation(EYE[:2], [1.0, 2.0], ridge=1.0), ConfigError),
    "a skew kernel": (lambda: KernelSelfDistillation(EYE + np.eye(3, k=1), [1.0, 2.0, 3.0], ridge=1.0), ConfigError),
    "fewer targets": (lambda: KernelSelfDistillation(EYE, [1.0, 2.0], ridge=1.0), ConfigError),
    "targets of three axes": (lambda: KernelSelfDistillation(EYE, np.zeros((3, 1, 1)), ridge=1.0), ConfigError),
    "no ridge": (lambda: KernelSelfDistillation(EYE, [1.0, 2.0, 3.0], ridge=0.0), ConfigError),
    "an infinite ridge": (lambda: KernelSelfDistillation(EYE, [1.0, 2.0, 3.0], ridge=INF), ConfigError),
    "a layout with a sign": (lambda: Outputs("BC-"), ConfigError),
    "an empty layout": (lambda: Outputs(""), ConfigError),
    "no rate": (lambda: OptimizerConfig(lr=0.0), ConfigError),
    "negative decay": (lambda: OptimizerConfig(weight_decay=-1e-9), ConfigError),
    "more parts than samples": (lambda: TrainConfig(batch_size=4, micro_batches=5), ConfigError),
    "no epoch": (lambda: TrainConfig(0), ConfigError),
    "no checkpoint": (lambda: TrainConfig(checkpoint_steps=0), ConfigError),
    "decay of one": (lambda: Averaging(decay=1.0), ConfigError),
    "no milestones": (lambda: SchedulerConfig("multistep"), ConfigError),
    "soft labels below 0": (lambda: check_soft_labels(torch.tensor([[-0.1, 1.1]])), ValueError),
    "soft labels over 1": (lambda: check_soft_labels(torch.tensor([[0.5, 0.5], [0.5, 0.502]])), ValueError),
    "a low label": (lambda: check_labels(LOGITS, torch.tensor([0, -1, 0])), ValueError),
    "a high label": (lambda: check_labels(LOGITS, torch.tensor([0, 4, 0])), ValueError),
    "two labels": (lambda: check_labels(LOGITS, torch.tensor([0, 1])), ValueError),
    "bool labels": (lambda: check_labels(LOGITS, torch.tensor([True, False, True])), TypeError),
    "float labels": (lambda: check_labels(LOGITS, torch.zeros(3)), TypeError),
    "a list of labels": (lambda: check_labels(LOGITS, [0, 1, 2]), TypeError),
    "fewer levels": (lambda: as_levels([LOGITS], [LOGITS] * 2), ValueError),
    "too few levels": (lambda: as_levels([LOGITS], [LOGITS], at_least=2), ValueError),
    "vectors as maps": (lambda: match_size(LOGITS, LOGITS), ValueError),
    "maps of other axes": (lambda: match_size(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2, 2)), ValueError),
    "one negative probability": (lambda: log_probabilities(torch.tensor([[0.5, 0.5], [-0.2, 1.2]])), TeacherError),
    "one wrong row": (lambda: log_probabilities(torch.tensor([[0.5, 0.5], [0.5, 0.502]])), TeacherError),
    "a ResNet below": (lambda: ResNet(2), ConfigError),
    "a ResNet between": (lambda: ResNet(9), ConfigError),
    "a wide ResNet below": (lambda: WideResNet(4), ConfigError),
    "a wide ResNet between": (lambda: WideResNet(11), ConfigError),
    "a share of nothing": (lambda: stratified([0, 0, 1, 1], (1.0, 0.0), 0), ValueError),
    "shares above one": (lambda: stratified([0, 0, 1, 1], (0.6, 0.6), 0), ValueError),
    "fewer targets of students": (lambda: side_by_side(2, 1, [0.5, 0.0]), ConfigError),
    "fewer weights of students": (lambda: side_by_side(2, 2, [0.5]), ConfigError),
    "clipped students": (lambda: side_by_side(2, 2, [0.5, 0.0], clip_norm=1.0), ConfigError),
    "no classes per batch": (lambda: ClassUniformSampler([0, 1], classes=0, per_class=1), ConfigError),
    "no samples per class": (lambda: ClassUniformSampler([0, 1], classes=1, per_class=0), ConfigError),
    "a small class": (lambda: ClassUniformSampler([0, 0, 1], classes=2, per_class=2), ConfigError),
    "a label without a super-class": (
        lambda: SuperclassUniformSampler([0, 2], [0, 0], classes=1, per_class=1), ConfigError
    ),
    "a negative class": (lambda: SuperclassUniformSampler([0, -1], [0, 0], classes=1, per_class=1), ConfigError),
    "labels of two axes": (lambda: ClassUniformSampler([[0], [1]], classes=1, per_class=1), ValueError),
    "no super-class": (lambda: super_classes(*TWO, 0), ConfigError),
    "too many super-classes": (lambda: super_classes(*TWO, 3), ConfigError),
    "no class in a super-class": (lambda: super_classes(*TWO, 1, smallest=0), ConfigError),
    "too many classes in one": (lambda: super_classes(*TWO, 1, smallest=3), ConfigError),
    "a class without samples": (lambda: super_classes(torch.eye(2), torch.tensor([0, 2]), 1), ValueError),
    "equal capacities": (lambda: check_capacity_order([1.0, 1.0]), ConfigError),
    "no batch": (lambda: Batches((torch.zeros(3, 1), torch.zeros(3)), 4, drop_last=True), ValueError),
    "labels of a batch": (lambda: Batches((torch.zeros(3, 1), torch.zeros(2)), 2), ValueError),
    "a pool of nothing": (lambda: CATKD(pool_size=0), ConfigError),
    "no taps": (lambda: Term(FitNet()).on([]), ConfigError),
    "more taps of the teacher": (lambda: Term(FitNet()).on("a", ["a", "b"]), ConfigError),
}  # fmt: skip


@pytest.mark.parametrize("name", FINE)
def test_values_at_the_edge_are_taken(name):
    FINE[name]()


@pytest.mark.parametrize("name", FAULTS)
def test_a_value_that_breaks_one_rule_is_refused(name):
    run, error = FAULTS[name]
    with pytest.raises(error):
        run()


@pytest.mark.parametrize(
    "change",
    [
        {"y": np.arange(29) % 3},
        {"y": np.arange(30) % 3 / 1.0},
        {"x": np.zeros(30)},
        {"x": np.zeros((30, 1, 1, 1, 1))},
        {"x": np.full((30, 2), "a")},
        {"x": np.where(np.arange(60).reshape(30, 2) == 7, np.inf, 0.0)},
    ],
)
def test_arrays_that_break_one_rule_are_refused(tmp_path, change):
    assert len(arrays(tmp_path).train) == 18
    with pytest.raises(DataFileError):
        arrays(tmp_path, **change)


def test_an_exported_student_has_no_gradient_and_weights_of_another_shape_are_refused(tmp_path):
    student = create("mlp", input_shape=(2,), hidden=(3,))
    student(torch.zeros(1, 2)).sum().backward()
    assert all(parameter.grad is None for parameter in export_student(student).parameters())
    assert all(parameter.grad is not None for parameter in student.parameters())
    save_weights(student, tmp_path / "a.safetensors", {"epochs": 3})
    assert load_weights(create("mlp", input_shape=(2,), hidden=(3,)), tmp_path / "a.safetensors") == {"epochs": 3}
    for other, message in (
        (create("mlp", input_shape=(2,), hidden=(4,)), r"'fc.weight' is \(10, 3\) in the file and \(10, 4\)"),
        (create("mlp", input_shape=(2,), hidden=(3, 3)), "'hidden2.0.bias' is None in the file and"),
        (create("mlp", input_shape=(2,), hidden=()), r"'fc.weight' is \(10, 3\) in the file and \(10, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            load_weights(other, tmp_path / "a.safetensors")
