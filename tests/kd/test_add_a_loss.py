"""A loss from another package: one file, one record, and no edit of policykd; it is trained, shown and benchmarked."""

import json
import sys
import textwrap

import pytest
import torch
from torch import nn

from empty_figures import leave_out_figures
from policykd.cli.main import main
from policykd.errors import ConfigError
from policykd.executor import Processes
from policykd.kd.benchmark.config import BenchConfig
from policykd.kd.benchmark.placements import placement_of
from policykd.kd.benchmark.results import BenchResult
from policykd.kd.benchmark.runner import run_benchmark
from policykd.kd.objective.objective import Objective
from policykd.kd.registry import LOSSES, LossInfo
from policykd.plain import typed

LOSS = '''
    """Cosine distance of features."""

    import torch
    from torch import Tensor

    from policykd.divergences import Reduction, reduce_loss
    from policykd.kd.losses import loss_function, loss_module
    from policykd.kd.options import Positive
    from policykd.kd.shapes import prepare_embeddings


    @loss_function
    def cosine(student: Tensor, teacher: Tensor, *, power: Positive = 1.0, reduction: Reduction = "mean") -> Tensor:
        """Turn the student's feature into the direction of the teacher's."""
        student, teacher = prepare_embeddings(student, teacher, same_width=True)
        return reduce_loss((1.0 - torch.cosine_similarity(student, teacher)) ** power, reduction)


    Cosine = loss_module(cosine, "Cosine", signal="features")
'''
RECORD = '''
    """Record of my_lab.cosine."""

    from policykd.kd.registry import LossInfo, Preset

    INFO = LossInfo(
        name="cosine",
        title="Cosine distance",
        paper="Nobody: A Loss for a Test",
        year=2025,
        venue="my_lab",
        family="feature",
        needs=("features",),
        equation="(1 - cos(f_s, f_t))^p",
        loss="my_lab.cosine:Cosine",
        presets=(Preset("lab", "my_lab, digits", "ours", weight=2.0, options={"power": 2.0}),),
        default="lab",
        placement="my_lab.cosine_place:PLACE",
    )
'''
PLACE = '''
    """Where benchmarks place my_lab.cosine."""

    from policykd.kd.benchmark.placements import Placement
    from policykd.kd.objective.projectors import Linear


    def place(info, context, setting):
        """Compare the pooled features, the student's through a linear map."""
        return {info.name: info.build(**setting.options).on(context.vector, student_proj=Linear())}


    PLACE = Placement("the pooled feature, the student's through a linear map", place)
'''
NAME = "my_lab.cosine_record:INFO"


@pytest.fixture
def my_lab(tmp_path, monkeypatch):
    """The package ``my_lab``, importable."""
    folder = tmp_path / "outside" / "my_lab"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    for name, text in (("cosine", LOSS), ("cosine_record", RECORD), ("cosine_place", PLACE)):
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(folder.parent)
    forget_my_lab()  # another test's package of that name
    yield folder
    forget_my_lab()


def forget_my_lab():
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_lab"]:
        del sys.modules[name]


def test_it_is_a_term_of_an_objective(my_lab):
    from my_lab.cosine import Cosine

    torch.manual_seed(0)
    student, teacher = (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)) for _ in range(2))
    x, y = torch.randn(6, 4), torch.arange(6) % 2
    out = Objective(cosine=0.5 * Cosine(power=2.0).on("0"))(student, teacher.eval(), x, y)
    gap = 1 - torch.cosine_similarity(student[0](x), teacher[0](x))
    torch.testing.assert_close(out.loss, 0.5 * gap.square().mean())
    out.loss.backward()
    assert float(student[0].weight.grad.abs().sum()) > 0
    with pytest.raises(ConfigError, match="power must be above 0"):
        Cosine(power=0.0)


def test_it_is_shown(my_lab, capsys):
    assert main(["kd", "show", NAME]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for told in ("cosine: Cosine distance", "module my_lab.cosine.Cosine", "preset lab: weight 2, cross-entropy 1"):
        assert told in printed


def test_it_is_listed_when_registered(my_lab, capsys):
    LOSSES.register("cosine", LOSSES.resolve(NAME))
    try:
        assert LOSSES.get("cosine", preset="lab").build().power == 2.0
        assert main(["kd", "list", "--family", "feature"]) == 0
        assert "Cosine distance" in capsys.readouterr().out
        unranked = [name for name, info in LOSSES.items() if info.family == "feature" and info.rank == LossInfo.rank]
        assert unranked == sorted(unranked) == list(LOSSES)[-len(unranked) :], "by name, behind the ranked ones"
        assert "cosine" in unranked
    finally:
        LOSSES.unregister("cosine")


def figures(result):
    """All that does not depend on the clock."""
    cells = {method: [without_times(cell) for cell in cells] for method, cells in result.cells.items()}
    return cells, [without_times(teacher) for teacher in result.teachers]


def without_times(tree):
    if isinstance(tree, dict):
        return {name: without_times(value) for name, value in tree.items() if not name.startswith("seconds")}
    return [without_times(value) for value in tree] if isinstance(tree, (list, tuple)) else tree


def test_it_is_benchmarked_here_and_in_another_process(my_lab, tmp_path, monkeypatch, capsys):
    leave_out_figures(monkeypatch)
    words = (
        *("--task", "textures", "--methods", f"ce,{NAME}", "--seeds", "2", "--epochs", "1", "--workers", "1"),
        *("--set", "student=resnet8:2,2,2,2", "teacher=resnet8:2,2,4,4", "teacher_train.epochs=1"),
        *("--task-option", "train=24", "val=12", "test=12", "side=8"),
    )
    out, docs = tmp_path / "out", tmp_path / "bench.md"
    assert main(["kd", "bench", *words, "--out", str(out), "--docs", str(docs)]) == 0
    cell = json.loads((out / "cells" / "my_lab.cosine_record-INFO-seed0.json").read_text())
    setting = cell["candidates"][0]["setting"]
    assert (setting["weight"], setting["options"], setting["preset"]) == (2.0, {"power": 2.0}, "lab")
    here = BenchResult.load(out)
    config = typed(BenchConfig, here.config, "config")
    there = run_benchmark(config, tmp_path / "there", executor=Processes(1))
    assert figures(there) == figures(here), "in another process as in this one"
    row = next(line for line in docs.read_text().splitlines() if line.startswith(f"| {NAME} | feature"))
    assert placement_of(NAME).where in row
    capsys.readouterr()
    assert main(["kd", "bench", "--methods", "ce,my_lab.cosine_record:INFOO"]) == 2
    assert "my_lab.cosine_record has no attribute 'INFOO'" in " ".join(capsys.readouterr().err.split())


def test_a_result_from_elsewhere_imports_nothing(my_lab):
    assert LOSSES.known("my_lab.other_record:INFO") is None
    assert LOSSES.known("kd") is LOSSES["kd"]
