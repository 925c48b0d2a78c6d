"""Uses that once gave a wrong number or a misleading message, each with the right value or the right message."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.ensemble import RandomForestClassifier
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from policykd.kd import functional as kf
from policykd.kd.losses import CE, CRD, KD
from policykd.kd.networks import MLP
from policykd.kd.objective.loss_call import FunctionLoss
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.projectors import Chain, Linear, Pool, ProjectorError
from policykd.kd.objective.taps import TapError, Taps
from policykd.kd.objective.teachers import TeacherError, from_sklearn
from policykd.kd.objective.terms import Term
from policykd.kd.registry import LOSSES
from policykd.kd.training.batches import Batches
from policykd.kd.training.config import OptimizerConfig, TrainConfig
from policykd.kd.training.distiller import Distiller
from policykd.kd.training.teacher_cache import TeacherCache


def tensor(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Shifted(Dataset):
    """Raw values as attributes x and y; a sample is shifted by two when it is asked for."""

    def __init__(self, y):
        self.x, self.y, self.calls = torch.zeros(len(y), 3), y, 0

    def __len__(self):
        return len(self.x)

    def __getitem__(self, position):
        self.calls += 1
        return self.x[position] - 2.0, self.y[position]


# ---- D1: data sets that happen to have attributes x and y ------------------------------------------------------------
def test_a_data_set_with_attributes_x_and_y_is_asked_for_its_samples():
    data = Shifted(torch.tensor([0, 1, 2, 1]))
    batch = next(Batches(data, 4, shuffle=False).epoch(0))
    assert data.calls == 4
    assert float(batch.x.mean()) == -2.0
    assert batch.targets.tolist() == [0, 1, 2, 1]


def test_other_objects_with_x_and_y_are_refused_in_words():
    class Holder:
        x, y = torch.zeros(4, 3), torch.zeros(4, dtype=torch.long)

    with pytest.raises(ValueError, match=r"not a Holder; of an object with x and y give \(object.x, object.y\)"):
        Batches(Holder(), 2)


# ---- D2: labels that are not whole numbers ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("label", "dtype"),
    [
        (4.75, torch.float32),
        (np.float32(4.75), torch.float32),
        (torch.tensor(4.75), torch.float32),
        ([0.25, 0.75], torch.float32),
        (torch.tensor([1.0, 0.0, 1.0]), torch.float32),
        (np.array([True, False]), torch.bool),
        (3, torch.int64),
        (np.int32(3), torch.int64),
        (torch.tensor(3, dtype=torch.uint8), torch.int64),
    ],
)
def test_labels_of_a_map_style_data_set_keep_their_values(label, dtype):
    if isinstance(label, list):
        label = torch.tensor(label)
    targets = next(Batches([(torch.zeros(2), label)] * 3, 3).epoch(0)).targets
    assert targets.dtype == dtype
    np.testing.assert_array_equal(targets[1].numpy(), np.asarray(label))


# ---- D3: losses of torch that take (input, target) -------------------------------------------------------------------
@pytest.mark.parametrize("loss", [nn.BCEWithLogitsLoss(), nn.MultiLabelSoftMarginLoss()])
def test_torch_losses_that_only_take_labels_get_the_labels(loss):
    from policykd.kd.objective.outputs import Outputs

    student, teacher = MLP((4,), (6,), classes=5), MLP((4,), (6,), classes=5).eval()
    x, y = tensor(8, 4), (tensor(8, 5, seed=1) > 0).float()
    out = Objective(bce=Term(loss), outputs=Outputs(kind="multi_label"))(student, teacher, x, y)
    torch.testing.assert_close(out.loss, loss(student(x), y))


class Focal(nn.Module):
    def forward(self, input, target):
        return ((1 - input.softmax(1).gather(1, target[:, None])) ** 2 * F.cross_entropy(input, target)).mean()


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.SmoothL1Loss(), nn.L1Loss(), Focal()])
def test_a_loss_of_input_and_target_must_say_what_the_target_is(loss):
    student, teacher, x, y = MLP((4,), classes=3), MLP((4,), classes=3).eval(), tensor(8, 4), torch.arange(8) % 3
    with pytest.raises(
        ValueError, match=r'may be the labels or the teacher.s logits, say which: .*against\("labels"\)'
    ):
        Objective(a=Term(loss))(student, teacher, x, y)
    if isinstance(loss, Focal):
        value, expected = Objective(a=Term(loss).against("labels"))(student, None, x, y), loss(student(x), y)
    else:
        value = Objective(a=Term(loss).against("teacher"))(student, teacher, x, y)
        expected = loss(student(x), teacher(x))
    torch.testing.assert_close(value.loss, expected)


@pytest.mark.parametrize(
    "loss", [nn.KLDivLoss(), nn.BCELoss(), nn.SoftMarginLoss(), nn.CosineEmbeddingLoss(), nn.MarginRankingLoss()]
)
def test_torch_losses_of_other_things_than_logits_are_refused(loss):
    with pytest.raises(TypeError, match=rf"{type(loss).__name__} takes .*: (use|wrap)"):
        Term(loss)


# ---- D4: frozen layers -----------------------------------------------------------------------------------------------
def normalized():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3))


@pytest.mark.parametrize("evaluated", [False, True])
def test_frozen_batch_normalization_keeps_its_statistics(evaluated):
    student = normalized().train(not evaluated)
    student[1].eval().requires_grad_(False)
    data = tensor(32, 4) + 5.0, torch.arange(32) % 3
    Distiller(student, None, Objective(ce=CE()), TrainConfig(epochs=4, batch_size=8)).fit(data)
    assert torch.equal(student[1].running_mean, torch.zeros(6))
    assert student[3].training
    other = normalized()
    Distiller(other, None, Objective(ce=CE()), TrainConfig(epochs=1, batch_size=8)).fit(data)
    assert float(other[1].running_mean.abs().max()) > 0.1  # so the statistics would have moved


def test_the_loop_of_systems_leaves_frozen_layers_alone_too():
    from policykd.kd.training.loop import train_classifier

    network = normalized()
    network[1].eval().requires_grad_(False)
    train_classifier(network, (tensor(32, 4) + 5.0, torch.arange(32) % 3), TrainConfig(epochs=2, batch_size=8))
    assert torch.equal(network[1].running_mean, torch.zeros(6))


# ---- D5: outputs with more axes than (B, C) --------------------------------------------------------------------------
Y = torch.tensor([0, 1, 2, 0])
ON_LOGITS = {
    "kd": kf.kd,
    "jsd": kf.jsd,
    "lskd": kf.lskd,
    "mse_logits": kf.mse_logits,
    "dist": kf.dist,
    "mlkd": kf.mlkd,
    "binary_kd": kf.binary_kd,
    "alpha_beta": kf.alpha_beta,
    "ctkd": lambda s, t: LOSSES["ctkd"].load()()(s, t),
    "nkd": lambda s, t: kf.nkd(s, t, Y),
    "balanced_kl": kf.balanced_kl,
    "dkd": lambda s, t: kf.dkd(s, t, Y),
    "wsld": lambda s, t: kf.wsld(s, t, Y),
    "cwtm": lambda s, t: kf.cwtm(s, t, Y),
    "selective_kd": lambda s, t: kf.selective_kd(s, t, Y),
    "ground_truth_mse": lambda s, t: kf.ground_truth_mse(s, t, Y),
    "std_scaled_kd": lambda s, t: kf.std_scaled_kd(s, t, Y),
    "multi_teacher_kd": lambda s, t: kf.multi_teacher_kd(s, t[None], torch.ones(1, 4)),
    "ce": lambda s, t: kf.ce(s, t.softmax(1)),
    "tfkd": lambda s, t: kf.tfkd(s, Y),
}


@pytest.mark.parametrize("name", ON_LOGITS)
@pytest.mark.parametrize("shape", [(4, 3, 5), (4, 3, 2, 2)])
def test_a_loss_on_logits_refuses_outputs_whose_class_axis_is_unknown(name, shape):
    with pytest.raises(ValueError, match=r"logits must be \(B, C\), got .*Outputs\('BTC'\)"):
        ON_LOGITS[name](tensor(*shape), tensor(*shape, seed=1))


def test_every_loss_on_logits_is_in_the_list_above():
    listed = {name for name, info in LOSSES.items() if info.load().signal == "logits"}
    assert listed - set(ON_LOGITS) <= {"bce", "mse", "gaussian_nll", "gaussian_kl"}  # tested in their own files


def test_kd_of_maps_softens_over_the_classes():
    from policykd.kd.objective.outputs import Outputs

    maps, taught = tensor(2, 3, 4, 4), tensor(2, 3, 4, 4, seed=1)
    student, teacher = nn.Identity(), FixedTeacher(taught)
    value = Objective(kd=KD(temperature=1.0), outputs=Outputs("BCHW"))(student, teacher, maps).loss
    over_classes = F.kl_div(maps.log_softmax(1), taught.softmax(1), reduction="none").sum(1).mean()
    over_width = F.kl_div(maps.log_softmax(3), taught.softmax(3), reduction="none").sum(3).mean()
    torch.testing.assert_close(value, over_classes)
    assert abs(float(value - over_width)) > 1e-3


class FixedTeacher(nn.Module):
    def __init__(self, output):
        super().__init__()
        self.output = output
        self.eval()

    def forward(self, x):
        return self.output


# ---- D6: a cache of the stored samples, and augmented ones -----------------------------------------------------------
def cached_setting():
    torch.manual_seed(0)
    student, teacher = MLP((4,), (6,), classes=3), MLP((4,), (9,), classes=3).eval()
    x, y = tensor(12, 4), torch.arange(12) % 3
    return student, TeacherCache(teacher(x).detach().numpy()), (x, y)


def test_a_cache_is_refused_where_the_student_sees_augmented_samples():
    student, cache, data = cached_setting()
    objective, config = Objective(kd=KD()), TrainConfig(epochs=1, batch_size=6)
    for teacher in (cache, [cache, cache], {"a": cache}):
        with pytest.raises(
            TeacherError, match="for the inputs as they are, but the student sees newly augmented inputs"
        ):
            Distiller(student, teacher, objective, config).fit(data, augment=lambda x, generator: x + 1)
    bound = objective.bind(student, cache, epochs=1)
    batch = next(Batches(data, 6, augment=lambda x, generator: x + 1).epoch(0))
    with pytest.raises(TeacherError, match="newly augmented"):
        bound(batch, 0)
    Distiller(student, cache, objective, config).fit(data)


# ---- D7: soft labels that are not probabilities ----------------------------------------------------------------------
@pytest.mark.parametrize("rows", [[[1.0, 0.0, 1.0]], [[0.2, 0.2, 0.2]], [[1.5, -0.5, 0.0]]])
def test_labels_that_are_no_distribution_are_refused(rows):
    labels = torch.tensor(rows).expand(4, 3)
    for value in (lambda: kf.ce(tensor(4, 3), labels), lambda: kf.std_scaled_kd(tensor(4, 3), tensor(4, 3), labels)):
        with pytest.raises(ValueError, match=r"must be probabilities whose rows sum to 1, got values from .*BCE"):
            value()
    with pytest.raises(ValueError, match="must be probabilities whose rows sum to 1"):
        Objective(ce=Term(nn.CrossEntropyLoss()))(nn.Identity(), None, tensor(4, 3), labels)
    good = torch.full((4, 3), 1 / 3)
    torch.testing.assert_close(kf.ce(tensor(4, 3), good), F.cross_entropy(tensor(4, 3), good))


# ---- D8: errors that shapes do not explain ---------------------------------------------------------------------------
def test_an_error_of_a_loss_is_not_blamed_on_shapes_that_may_differ():
    student, teacher = MLP((4,), (6,), classes=3), MLP((4,), (9,), classes=3).eval()
    objective = Objective(crd=Term(CRD(8, 6, 9, dim=4, negatives=3)).on("hidden1"))
    with pytest.raises(ValueError, match=r"index") as caught:
        objective(student, teacher, tensor(8, 4), index=torch.arange(8) + 3)
    assert "projector" not in str(caught.value)
    assert caught.value.__notes__ == ["in term 'crd' (CRD)"]

    def refuse(student, teacher):
        raise ValueError("the moon is full")

    with pytest.raises(ValueError, match=r"^the moon is full"):
        Objective(odd=Term(FunctionLoss(refuse)).on("hidden1"))(student, teacher, tensor(8, 4))


# ---- D9: token features ----------------------------------------------------------------------------------------------
def test_projectors_tell_tokens_from_maps():
    for projector in (Linear(), Chain(Linear())):
        with pytest.raises(ProjectorError, match=r"if these are tokens \(B, T, D\), use TokenLinear\(\)"):
            projector.build((7, 6), (7, 9))


def test_tokens_are_projected_along_their_width():
    from policykd.kd.objective.projectors import TokenLinear, Tokens

    tokens = tensor(2, 7, 6)
    projector = TokenLinear()
    assert projector.build((7, 6), (7, 9)) == (7, 9)
    torch.testing.assert_close(projector(tokens)[:, 3], projector.map(tokens[:, 3]))
    pooled = Chain(Tokens(), Pool(1), Linear())
    assert pooled.build((7, 6), (9,)) == (9,)
    torch.testing.assert_close(pooled(tokens), pooled.steps[2].map(tokens.mean(1)))
    with pytest.raises(ProjectorError, match="made for width 5, but the tokens have width 6"):
        TokenLinear(5).build((7, 6), (7, 9))
    with pytest.raises(ProjectorError, match=r"Tokens takes features \(B, T, D\)"):
        Tokens().build((6,), (9,))


# ---- D10: raw errors -------------------------------------------------------------------------------------------------
def test_string_labels_of_scikit_learn_need_the_order_of_the_task():
    x, names = np.random.default_rng(0).normal(size=(30, 4)), np.array(["dog", "cat"] * 15)
    forest = RandomForestClassifier(5, random_state=0).fit(x, names)
    with pytest.raises(TeacherError, match=r"are <U3 \(\['cat', 'dog'\], ...\).*from_sklearn\(estimator, labels="):
        from_sklearn(forest)
    with pytest.raises(TeacherError, match=r"knows 'cat', which is not among labels=\['dog'\]"):
        from_sklearn(forest, labels=["dog"])
    logits = from_sklearn(forest, labels=["dog", "bird", "cat"]).signals(torch.from_numpy(x), None, {}).logits
    np.testing.assert_allclose(logits.softmax(1)[:, [2, 0]].numpy(), forest.predict_proba(x), atol=1e-6)


def test_bytes_a_network_does_not_take_are_named():
    images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten())
    with pytest.raises(TypeError, match=r"Sequential does not take the bytes \(uint8\) .* x.float\(\) / 255"):
        Objective(ce=CE())(network, None, images, torch.zeros(4, dtype=torch.long))


def test_a_data_set_of_names_is_refused_in_words():
    with pytest.raises(TypeError, match="a data set gives 'cat'; networks and losses take numbers"):
        next(Batches([(torch.zeros(2), "cat")] * 4, 2).epoch(0))


def test_dict_samples_and_tensor_data_sets_work():
    samples = [{"image": torch.full((2,), float(i)), "label": i % 3} for i in range(6)]
    batch = next(Batches(samples, 4, shuffle=False).epoch(0))
    assert batch.x[:, 0].tolist() == [0, 1, 2, 3]
    assert batch.targets.tolist() == [0, 1, 2, 0]
    batch = next(Batches(TensorDataset(tensor(6, 2), torch.arange(6)), 4, shuffle=False).epoch(0))
    assert batch.targets.tolist() == [0, 1, 2, 3]


def test_a_compiled_student_that_ran_without_taps_is_told_so():
    torch.compiler.reset()
    student = torch.compile(MLP((4,), (6,), classes=3), backend="eager")
    student(tensor(5, 4))
    with Taps(["hidden1"]).attach(student) as seen:
        student(tensor(5, 4))
    with pytest.raises(TapError, match=r"did not run .*a compiled model that ran without taps before.*compiler.reset"):
        seen.tensor("hidden1")
    torch.compiler.reset()


def test_taps_work_in_a_full_graph():
    torch.compiler.reset()
    plain = MLP((4,), (6,), classes=3)
    student = torch.compile(plain, backend="eager", fullgraph=True)
    x = tensor(5, 4)
    with Taps(["hidden1"]).attach(student) as seen:
        student(x)
    torch.testing.assert_close(seen.tensor("hidden1"), plain.hidden1(x))
    torch.compiler.reset()


def test_a_class_of_optimizers_in_the_configuration_is_refused_in_words():
    with pytest.raises(ValueError, match=r"optimizer is .*AdamW.*Distiller\(\.\.\., optimizer="):
        TrainConfig(optimizer=torch.optim.AdamW)
    assert TrainConfig(optimizer=OptimizerConfig("adamw")).optimizer.name == "adamw"


# ---- D14: losses of systems are registered ---------------------------------------------------------------------------
def test_losses_of_systems_are_registered_terms():
    names = "binary_kd iusp similarity_keeping modality_gram balanced_kl std_scaled_kd multi_teacher_kd sskd"
    for name in names.split():
        assert LOSSES[name].load().name == name
