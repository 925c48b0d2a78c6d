"""Terms, teachers and checkpoints at their edges: probabilities, weights, stored outputs, states that come back."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from policykd.errors import ConfigError
from policykd.kd.losses import CE, KD, SP, FitNet
from policykd.kd.objective import teachers
from policykd.kd.objective.outputs import Outputs
from policykd.kd.objective.projectors import Linear
from policykd.kd.objective.terms import Term, as_terms
from policykd.kd.training import checkpoint

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def test_probabilities_become_logits():
    p = torch.tensor([[0.25, 0.75], [0.0, 1.0]])
    torch.testing.assert_close(teachers.log_probabilities(p)[0], p[0].log())
    assert float(teachers.log_probabilities(p)[1, 0]) == pytest.approx(np.log(1e-12), rel=1e-5)
    near = torch.tensor([[0.5, 0.5009]])
    teachers.log_probabilities(near)
    for bad in (torch.tensor([[0.5, 0.502]]), torch.tensor([[0.5, 0.498]]), torch.tensor([[-0.1, 1.1]])):
        with pytest.raises(teachers.TeacherError, match="are not probabilities: least value"):
            teachers.log_probabilities(bad)
    teachers.log_probabilities(p.T, axis=0)
    odds = teachers._log_odds(torch.tensor([0.0, 0.5, 1.0, 0.8], dtype=torch.float64))
    assert odds[1:].tolist()[0] == 0.0
    assert float(odds[3]) == pytest.approx(np.log(4.0))
    assert torch.isfinite(odds).all()
    for value in (-0.01, 1.01):
        with pytest.raises(teachers.TeacherError, match="which are not probabilities"):
            teachers._log_odds(torch.tensor([0.5, value]))


class Model:
    """Stands in for a fitted model of scikit-learn."""

    def __init__(self, classes):
        self.classes_ = classes

    def predict_proba(self, x):
        assert x.ndim == 2
        return np.full((len(x), len(self.classes_)), 1 / len(self.classes_))


def test_classes_of_fitted_models_have_their_columns():
    made = teachers.from_sklearn(Model(np.array([0, 2])), classes=4)
    found = made.signals(X.reshape(4, 3, 1), None, {}).logits.exp()
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.0, 0.5, 0.0]] * 4), atol=1e-6, rtol=0)
    assert teachers._columns(Model(np.array([0, 2])), None, None)[1] == 3
    named = teachers._columns(Model(np.array(["b", "a"])), None, ["a", "b", "c"])
    assert (named[0].tolist(), named[1]) == ([1, 0], 3)
    assert teachers._columns(Model(np.array(["a"])), 5, ["a"])[1] == 5
    for classes, given, labels, message in (
        ([0, 3], 3, None, "knows labels 0 to 3, the task has 3 classes"), ([-1, 1], 3, None, "knows labels -1 to 1"),
        (["x"], None, ["a"], "knows 'x', which is not among"), (["x"], None, None, "the task's are numbers"),
        ([0.5], None, None, "the task's are numbers"),
    ):  # fmt: skip
        with pytest.raises(teachers.TeacherError, match=message):
            teachers._columns(Model(np.array(classes)), given, labels)
    with pytest.raises(teachers.TeacherError, match="fitted on several outputs"):
        teachers._columns(Model([np.array([0])]), None, None)
    with pytest.raises(teachers.TeacherError, match="object has no predict_proba, or is not fitted"):
        teachers.from_sklearn(object())


def test_functions_as_teachers():
    for gives, expected in (("logits", X), ("values", X)):
        made = teachers.CallableTeacher(lambda x: np.asarray(x), gives=gives, numpy=True)
        assert torch.equal(made.signals(X, None, {}).logits, expected)
    seen = []
    made = teachers.CallableTeacher(lambda x: seen.append(type(x)) or x.softmax(1))
    torch.testing.assert_close(made.signals(X, None, {}).logits, X.log_softmax(1))
    assert seen == [torch.Tensor]
    with pytest.raises(teachers.TeacherError, match=r"no layers to tap \(a, b\)"):
        made.signals(X, None, {"a": "a", "b": "b"})
    with pytest.raises(teachers.TeacherError, match="not 'labels'"):
        teachers.CallableTeacher(lambda x: x, gives="labels")
    network = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)).eval()
    assert torch.equal(teachers.ModuleTeacher(network).signals(X, None, {}).logits, network(X).detach())
    network[1].train()
    with pytest.raises(teachers.TeacherError, match=r"is in train mode \(1\)"):
        teachers.ModuleTeacher(network).signals(X, None, {})
    teachers.ModuleTeacher(network, batch_statistics=True).signals(X, None, {})
    with pytest.raises(TypeError, match="not a int"):
        teachers.as_teacher(3)
    own = teachers.as_teacher(lambda x: x, Outputs("BTC"))
    assert own.outputs == Outputs("BTC")
    assert list(teachers.as_teachers([network, network])) == ["0", "1"]
    assert list(teachers.as_teachers({"a": network})) == ["a"]
    assert list(teachers.as_teachers(network)) == ["teacher"]
    assert teachers.as_teachers(None) == {}


class Stored:
    """A teacher whose outputs are stored."""

    name = "cache"

    def __init__(self, variants):
        self.variants = variants


@pytest.mark.parametrize(
    ("stored", "augmented", "variants", "fits"),
    [(None, False, None, True), ((3, 0), True, (3, 0), True), (None, True, None, False), ((3, 0), False, None, False),
     ((3, 0), True, (3, 1), False), ((3, 0), True, None, False), (None, True, (3, 0), False),
     ((3, 0), False, (3, 0), False)],
)  # fmt: skip
def test_stored_outputs_are_those_of_the_inputs(stored, augmented, variants, fits):
    for source in (Stored(stored), [nn.Identity(), Stored(stored)], {"a": Stored(stored)}):
        assert teachers.has_stored(source)
        if fits:
            teachers.check_stored(source, augmented, variants)
        else:
            with pytest.raises(teachers.TeacherError, match="cache holds the teacher's outputs for"):
                teachers.check_stored(source, augmented, variants)
    teachers.check_stored([nn.Identity()], True, None)
    assert not teachers.has_stored(nn.Identity())
    assert teachers._variants_text(True, None) == "newly augmented inputs"
    assert teachers._variants_text(False, None) == "the inputs as they are"
    assert teachers._variants_text(True, (3, 1)) == "3 augmented variants (seed 1)"


def test_weights_of_terms():
    term = 0.5 * (Term(KD()) * 0.5)
    assert term.weight == 0.25
    assert term.weight_at(None, None) == 0.25

    def schedule(step, total):
        return step / total

    scheduled = Term(KD()) * schedule
    assert scheduled.weight_at(3.0, 4.0) == 0.75
    with pytest.raises(ConfigError, match="is a schedule: call objective"):
        scheduled.weight_at(None, None)
    for bad in (lambda: scheduled * 2.0, lambda: term * schedule):
        with pytest.raises(TypeError, match="one number or one schedule"):
            bad()
    with pytest.raises(TypeError, match="a weight is a number or a schedule, got str"):
        Term(KD(), weight="1")
    with pytest.raises(ConfigError, match="combine is 'mean', 'ensemble' or 'stack'"):
        Term(KD()).combined("sum")
    with pytest.raises(ConfigError, match="an objective needs at least one term"):
        as_terms({})


def test_taps_of_terms():
    term = Term(SP()).on("a")
    assert (term.student_taps, term.teacher_taps, term.student_projs) == (("a",), ("a",), ())
    both = Term(FitNet()).on("a", "b", student_proj=Linear())
    assert (both.teacher_taps, len(both.student_projs)) == (("b",), 1)
    assert both.per_event().by_event
    with pytest.raises(ConfigError, match=r"1 student tap\(s\) .* but 2 of the teacher"):
        Term(SP()).on("a", ["b", "c"])
    with pytest.raises(ConfigError, match=r"2 student projector\(s\) for 1 tap\(s\)"):
        Term(SP()).on("a", student_proj=[Linear(), Linear()])
    with pytest.raises(ConfigError, match="at least one tap"):
        Term(SP()).on([])
    with pytest.raises(ConfigError, match="only a term on features is read by event"):
        Term(CE()).per_event()


def test_trees_come_back_from_a_checkpoint(tmp_path):
    tree = {"a": [1, (2.5, None, True)], 3: {"t": torch.arange(4).view(2, 2)[:, 1], "e": []}, "s": "text"}
    checkpoint.save(tmp_path / "c", tree)
    found = checkpoint.load(tmp_path / "c")
    assert found["a"] == [1, (2.5, None, True)]
    assert isinstance(found["a"][1], tuple)
    assert found[3]["t"].tolist() == [1, 3]
    assert (found[3]["e"], found["s"]) == ([], "text")
    for bad, place in (({"a": {"b": {1}}}, "/a/b"), ([object()], "/0"), ({1}, "/")):
        with pytest.raises(TypeError, match=f"cannot store a .* at {place}$"):
            checkpoint.save(tmp_path / "d", bad)


def test_streams_of_the_caller_go_on_where_they_were():
    def draws():
        return float(torch.rand(1)), float(np.random.rand()), random.random()  # noqa: NPY002

    torch.manual_seed(1)
    states = checkpoint.random_states()
    first = draws()
    checkpoint.restore_random_states(states)
    assert draws() == first
    checkpoint.restore_random_states(states)
    with checkpoint.own_randomness(5):
        inside = draws()
        torch.manual_seed(5)
        assert float(torch.rand(1)) == inside[0]
    assert draws() == first
