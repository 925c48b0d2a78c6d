"""Rules of curricula that whole runs do not show: rows of the matrix, clocks, transfer curves."""

import json
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from tiny_curriculum import TINY

from policykd.curriculum import CURRICULA, Injection, make_plan
from policykd.curriculum import comparison as comparisons
from policykd.curriculum.comparison import _others
from policykd.curriculum.stage_runner import _stopwatch
from policykd.curriculum.stages import Train


@pytest.mark.parametrize("curriculum", CURRICULA)
def test_every_curriculum_ends_with_a_row_of_the_last_policy(curriculum):
    recipe = replace(TINY, curriculum=curriculum, injection=Injection(blind=0))
    plan = make_plan(recipe, 0)
    stages = [row.stage for row in plan.rows]
    assert len(set(stages)) == len(stages) == len({row.stage for row in plan.rows})
    work = [stage.name for stage in plan.stages if stage.name in stages]
    assert stages == work  # in the order in which the policies are made
    assert len(stages) >= 1


def test_tl_only_and_merge_has_a_row_for_each_expert_but_the_last_and_one_for_the_merge():
    plan = make_plan(replace(TINY, curriculum="tl-only+merge", injection=Injection(blind=0)), 0)
    trained = [stage.name for stage in plan.stages if isinstance(stage, Train)]
    rows = [row.stage for row in plan.rows]
    assert rows[:-1] == trained[:-1]
    assert rows[-1] not in trained


def test_the_clock_of_a_stage_goes_on_after_an_interruption(tmp_path):
    file = tmp_path / "spent.json"
    with suppress(KeyboardInterrupt), _stopwatch(file):
        time.sleep(0.02)
        raise KeyboardInterrupt
    first = json.loads(file.read_text())["seconds"]
    assert first >= 0.02
    with _stopwatch(file) as spent:
        time.sleep(0.01)
    assert spent["seconds"] >= first + 0.01
    assert json.loads(file.read_text()) == spent


def test_folders_of_other_curricula_leave_out_their_own(tmp_path):
    folders = {name: tmp_path / name for name in ("a", "b", "c")}
    assert _others(folders, "b") == (tmp_path / "a", tmp_path / "c")


def test_transfer_normalizes_curves_start_and_untrained_score_by_one_ceiling(monkeypatch, tmp_path):
    """All four scores are divided by the highest point of both curves, whatever its unit."""
    seen = []
    monkeypatch.setattr(comparisons, "forward_transfer", lambda *a, **k: seen.append((a, k)) or 0.25)
    curves = {"mine": [(0, 2.0), (10, 8.0)], "theirs": [(0, 1.0), (20, 6.0)]}
    monkeypatch.setattr(comparisons, "curve_of", lambda log: curves[log])
    monkeypatch.setattr(comparisons, "StageFolders", lambda place: _Logs("mine" if "mine" in str(place) else "theirs"))
    monkeypatch.setattr(comparisons.CurriculumResult, "load", lambda path: _Result())
    assert comparisons._transfer(_Result(), tmp_path / "mine", tmp_path / "scratch") == {"second": 0.25}
    (ours, other, budget), given = seen[0]
    ceiling = 8.0 * 1.0001
    assert np.allclose([s for _, s in ours], [2.0 / ceiling, 8.0 / ceiling])
    assert np.allclose([s for _, s in other], [1.0 / ceiling, 6.0 / ceiling])
    assert budget == 15
    assert given == {"start": pytest.approx(3.0 / ceiling), "scratch_start": pytest.approx(0.5 / ceiling)}


class _Logs:
    def __init__(self, kind):
        self._kind = kind

    def log(self, name):
        return self._kind


class _Outcome:
    def __init__(self, name):
        self.name, self.steps = name, 15


class _Result:
    """A finished run of two skills, of which the second began from the first."""

    experts = {"first": "train-first", "second": "train-second"}
    outcomes = (_Outcome("train-first"), _Outcome("train-second"))
    recipe = replace(TINY, curriculum="plaid")

    class matrix:
        learned, scores, untrained, floor = (0, 1), [[5.0, 3.0], [5.0, 7.0]], (0.1, 0.5), np.zeros(2)
