"""Fits, recipes, cells, systems and claims themselves, and a system that somebody writes outside the package."""

import textwrap
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from policykd.cli.main import main
from policykd.errors import ConfigError
from policykd.kd.experiments.experiment import Comparison
from policykd.kd.experiments.system import (
    Arm,
    Cell,
    DistillationRecipe,
    Fit,
    Recipe,
    System,
    cross_entropy,
    higher,
    lower,
    plain_kd,
)
from policykd.kd.losses import CE, KD, SP
from policykd.kd.losses.kd import kd
from policykd.kd.losses.sp import sp
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.projectors import Linear
from policykd.kd.objective.terms import Term
from policykd.kd.training.config import OptimizerConfig
from policykd.storage import read_json

SHORT = Recipe(Fit((8,), epochs=1), Fit((6,), epochs=1, batch_size=128))


class Toy(System[Recipe]):
    name = title = "toy"
    paper = "None."
    claim = "Distillation helps."
    claims = (higher("accuracy", "kd", "ce").says("Distillation is more accurate."),)
    recipe = SHORT

    def arms(self, cell):
        return {"ce": Arm(cross_entropy), "again": Arm(cross_entropy), "kd": Arm(plain_kd(cell.teacher, cell.recipe))}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "epochs is 0 and steps is 0; exactly one"),
        ({"epochs": 1, "steps": 1}, "epochs is 1 and steps is 1; exactly one"),
        ({"epochs": -1}, "epochs is -1"),
        ({"steps": -1}, "steps is -1"),
        ({"epochs": 1, "lr": 0.0}, "lr is 0.0"),
        ({"epochs": 1, "lr": -1}, "lr is -1"),
        ({"epochs": 1, "batch_size": 0}, "batch_size is 0"),
        ({"epochs": 1, "hidden": (4, 0)}, "hidden is 0"),
    ],
)
def test_a_fit_out_of_range_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Fit(**{"hidden": (4,), **options})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shares": (0.5, 0.4)}, "must sum to 1"),
        ({"shares": (1.0,)}, r"shares is \(1.0,\); give 2: for training, testing"),
        ({"shares": (1.0, 0.0)}, "shares is 1.0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"ce_weight": -1.0}, "ce_weight is -1.0"),
        ({"kd_weight": -1.0}, "kd_weight is -1.0"),
    ],
)
def test_a_recipe_out_of_range_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(SHORT, **change)


def test_a_fit_counts_epochs_or_full_steps():
    adam = OptimizerConfig("adam", lr=0.1, weight_decay=0.0)
    counted = Fit((4,), epochs=3, batch_size=16, lr=0.1).config(100, 7)
    assert (counted.epochs, counted.batch_size, counted.seed, counted.drop_last) == (3, 16, 7, False)
    assert counted.optimizer == adam
    assert Fit((4,), epochs=3, drop_last=True).config(100, 7).drop_last
    steps = Fit((4,), steps=13, batch_size=16, lr=0.1).config(100, 7)
    assert (steps.epochs, steps.batch_size, steps.seed, steps.drop_last) == (3, 16, 7, True)  # 6 full batches an epoch
    assert steps.optimizer == adam


def test_claims_in_words():
    assert higher("m", "a", "b", by=0.1).says("A beats B.") == Comparison(
        "m", student="a", baseline="b", better="higher", gate=0.1, text="A beats B."
    )
    assert lower("m", "a", by=0.5, required=False).says("A is small.") == Comparison(
        "m", student="a", better="lower", gate=0.5, required=False, text="A is small."
    )
    assert lower("m", "a", "b", by=0.5, statistic="ratio").says("Half.").statistic == "ratio"


def test_cells_repeat_and_equal_arms_are_equal():
    toy = Toy()
    cell = toy.run(0, SHORT)
    toy.experiment().check_cell(cell)
    assert list(cell) == ["teacher", "ce", "again", "kd"]
    assert cell["ce"] == cell["again"] != cell["kd"]
    assert toy.run(0, SHORT) == cell
    assert toy.run(1, SHORT) != cell


def test_the_experiment_has_the_fields_of_the_system():
    experiment = Toy().experiment()
    assert (experiment.name, experiment.config, experiment.comparisons) == ("toy", SHORT, Toy.claims)


def test_networks_follow_from_role_and_key():
    cell = Cell(0, SHORT)
    first, second, other = (
        cell.network("student", SHORT.student, *key).hidden1[0].weight for key in ((), ("student",), ("other",))
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_modules_along_are_trained_with_the_student():
    cell = Cell(0, SHORT)
    along, untouched = nn.Linear(10, 10), nn.Linear(10, 10)
    before = [layer.weight.clone() for layer in (along, untouched)]

    def loss(student, batch, epoch):
        return nn.functional.cross_entropy(untouched(along(student(batch.x))), batch.targets)

    cell.distil(Arm(loss, along=(along,)))
    assert not torch.equal(along.weight, before[0])
    assert torch.equal(untouched.weight, before[1])


def test_an_arm_and_a_system_add_their_own_metrics():
    class Counting(Toy):
        with_teacher = False

        def arms(self, cell):
            return {"ce": Arm(cross_entropy, figures=lambda student: {"grad": float(torch.is_grad_enabled())})}

        def measure(self, cell, network):
            assert not torch.is_grad_enabled()
            return {"same": float((network(cell.test.x).argmax(1) == cell.teacher(cell.test.x).argmax(1)).sum())}

        def other_arms(self, cell):
            return {"sizes": {"test": float(len(cell.test))}}

    cell = Counting().run(0, SHORT)
    assert cell["ce"].keys() == {"same", "grad"}  # the teacher was trained although gradients were off
    assert cell["ce"]["grad"] == 0.0
    assert cell["sizes"] == {"test": float(len(Cell(0, SHORT).test))}


def test_an_arm_may_be_an_objective_with_taps_projectors_and_a_cached_teacher():
    """The objective's student is that of the same loss written by hand, to the bit; its projector is trained too."""
    cell = Cell(0, SHORT)
    features, logits = cell.taught

    def by_hand(student, batch, epoch):
        own, out = student.features_and_logits(batch.x)
        total = 0.1 * nn.functional.cross_entropy(out, batch.targets)
        total = total + 0.9 * kd(out, logits[batch.index], temperature=4.0)
        return total + 2.0 * sp(own, features[batch.index])

    objective = Objective(ce=0.1 * CE(), kd=0.9 * KD(temperature=4.0), sp=2.0 * SP().on("hidden1"))
    own, other = cell.distil(Arm(objective)), cell.distil(Arm(by_hand))
    assert all(torch.equal(a, b) for a, b in zip(own.parameters(), other.parameters(), strict=True))
    hint = Term(nn.MSELoss()).on("hidden1", student_proj=Linear(bias=False))
    hinted = Objective(hint=hint)
    cell.distil(Arm(hinted))
    weights = [parameter.detach().clone() for parameter in hinted.parameters()]
    again = Objective(hint=Term(nn.MSELoss()).on("hidden1", student_proj=Linear(bias=False)))
    cell.distil(Arm(again))
    assert [tuple(weight.shape) for weight in weights] == [(8, 6)]
    assert torch.equal(weights[0], next(again.parameters()))


def test_an_objective_without_a_teacher_trains_none_and_another_teacher_may_be_given():
    cell = Cell(0, SHORT)
    on_labels = cell.distil(Arm(Objective(ce=CE())))
    assert "teacher" not in vars(cell)  # it would be cached there
    same = cell.distil(Arm(cross_entropy))
    assert torch.equal(on_labels.fc.weight, same.fc.weight)
    other = cell.distil(Arm(Objective(kd=KD()), teacher=cell.network("other", SHORT.teacher).eval()))
    assert not torch.equal(other.fc.weight, cell.distil(Arm(Objective(kd=KD()))).fc.weight)


def test_what_a_system_must_define_is_named():
    class Empty(Toy):
        arms = System.arms

    with pytest.raises(NotImplementedError, match="system toy must define arms or run"):
        Empty().run(0, SHORT)

    @dataclass(frozen=True)
    class Own(DistillationRecipe):
        pass

    with pytest.raises(NotImplementedError, match="Own is not a Recipe with shares of the digits: define splits"):
        Cell(0, Own(SHORT.teacher, SHORT.student))


OUTSIDE = """
    from dataclasses import dataclass

    import torch.nn.functional as F

    from policykd.kd.experiments.system import Arm, Fit, Recipe, System, cross_entropy, higher, plain_kd


    @dataclass(frozen=True)
    class SmoothRecipe(Recipe):
        teacher: Fit = Fit((16,), epochs=2)
        student: Fit = Fit((8,), epochs=2)
        smoothing: float = 0.1


    class Smooth(System[SmoothRecipe]):
        name = "smooth"
        title = "Smoothed labels"
        paper = "Ours."
        claim = "Distillation is more accurate than smoothed labels."
        claims = (higher("accuracy", "kd", "smooth").says("Distillation is more accurate than smoothed labels."),)
        recipe = SmoothRecipe()

        def arms(self, cell):
            def smooth(student, batch, epoch):
                return F.cross_entropy(student(batch.x), batch.targets, label_smoothing=cell.recipe.smoothing)

            return {
                "ce": Arm(cross_entropy),
                "smooth": Arm(smooth),
                "kd": Arm(plain_kd(cell.taught[1], cell.recipe)),
            }


    EXPERIMENT = Smooth().experiment()
"""


def test_a_system_from_outside_the_package_runs(tmp_path, monkeypatch, capsys):
    package = tmp_path / "my_pkg"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "my_system.py").write_text(textwrap.dedent(OUTSIDE))
    monkeypatch.syspath_prepend(str(tmp_path))
    run = ["kd", "run", "my_pkg.my_system:EXPERIMENT", "--seeds", "2", "--workers", "1", "--out", str(tmp_path / "out")]
    assert main([*run, "--set", "student.epochs=1", "smoothing=0.5"]) == 0
    stored = read_json(tmp_path / "out" / "smooth" / "result.json")
    assert stored["config"]["student"]["epochs"] == 1
    assert stored["config"]["smoothing"] == 0.5
    assert set(stored["values"]) == {"teacher", "ce", "smooth", "kd"}
    assert len(stored["values"]["kd"]["accuracy"]) == 2
    assert "Smoothed labels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("student.epochs=0", "epochs is 0 and steps is 0; exactly one of them must be above 0"),
        ("student.lr=-1", "lr is -1"),
        ("student=3", "set one of its fields: hidden, epochs"),
        ("shares=[0.5,0.4]", "must sum to 1"),
    ],
)
def test_wrong_settings_of_a_system_end_with_one_line(setting, message, tmp_path, capsys):
    run = ["kd", "run", "sp", "--seeds", "1", "--workers", "1", "--out", str(tmp_path)]
    assert main([*run, "--set", setting]) == 2
    error = capsys.readouterr().err
    assert error.count("error:") == 1
    assert "Traceback" not in error
    assert message in " ".join(error.split())
    assert not (tmp_path / "sp").exists()
