"""Specializing and merging again: which cycles are accepted, with scripted stages, and a tiny run that is resumed."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from tiny_curriculum import TINY

from policykd.agents.files.policy_file import load_policy
from policykd.cli.commands.specialize import Specialize
from policykd.curriculum import specialize as module
from policykd.curriculum.recipe import Measurement
from policykd.curriculum.specialize import SpecializedStudent, specialize
from policykd.curriculum.stages import Existing, Finetune, Measure, Merge, Outcome
from policykd.errors import ConfigError, UnknownNameError
from policykd.merge import merge_experts
from policykd.seeding import integer_seed
from policykd.stats import Interval

sys.path.insert(0, str(Path(__file__).parents[1] / "merge"))
from teacher_samples import TINY as TINY_MERGE
from teacher_samples import make_teacher

FLAT, GAPS = "biped/flat", "biped/gaps"


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    folder = tmp_path_factory.mktemp("student") / "run"
    merge_experts([make_teacher(FLAT, 1), make_teacher(GAPS, 2)], folder, replace(TINY_MERGE, rounds=1))
    return folder


NEW = {"student": ([0.5, 0.5], [0.4, 0.2]), "merge-1": ([0.6, 0.6], [0.4, 0.3]), "merge-2": ([0.5, 0.5], [0.0, 0.0])}
"""Rewards of two episodes per skill in the confirming test, by policy."""


def scripted(monkeypatch, rewards, new=NEW):
    """Let stages end at once with the given rewards by policy, and note them; ``new`` are those of the last test."""
    ran = []

    def run(plan, folders, cores, progress):
        for stage in plan.stages:
            if folders.outcome(stage.name) is not None:
                continue
            ran.append(stage)
            figures = {}
            if isinstance(stage, Measure):
                figures = {
                    "reward_per_step": dict(zip((s.id for s in stage.skills), rewards[stage.policy], strict=True))
                }
            known[stage.name] = Outcome(
                stage.name, stage.kind, 100 if isinstance(stage, Finetune) else 7, 0.0, 0.0, figures
            )

    known = {}
    monkeypatch.setattr(module, "run_stages", run)

    def confirmed(self, name):
        assert name in known
        policy = name.removeprefix("confirm-")
        cells = zip((FLAT, GAPS), new[policy], strict=True)
        return SimpleNamespace(cells={(policy, skill): SimpleNamespace(reward_per_step=tuple(r)) for skill, r in cells})

    monkeypatch.setattr(module.StageFolders, "evaluation", confirmed)
    monkeypatch.setattr(module.StageFolders, "outcome", lambda self, name: known.get(name))
    monkeypatch.setattr(module, "copy_folder", lambda source, target: ran.append(source.parent.name))
    return ran


def test_cycles_go_on_while_a_skill_gains_and_none_is_lost(monkeypatch, student, tmp_path):
    """Cycle 1: both specialists gain. Cycle 2: gaps gains, flat labels itself, and flat falls by 2 %: not accepted."""
    ran = scripted(
        monkeypatch,
        {
            "student": (0.5, 0.4), "finetune-1-flat": (0.52,), "finetune-1-gaps": (0.44,), "merge-1": (0.5, 0.44),
            "finetune-2-flat": (0.502,), "finetune-2-gaps": (0.55,), "merge-2": (0.49, 0.55),
        },
    )  # fmt: skip
    result = specialize(student, tmp_path / "out", cycles=5, gain=0.01, bound=0.01, seed=3)
    first, second = result.cycles
    assert first.specialists == pytest.approx({FLAT: 0.04, GAPS: 0.1})
    assert (first.teachers, first.accepted) == ({FLAT: "specialist", GAPS: "specialist"}, True)
    assert first.student == pytest.approx({FLAT: 0.0, GAPS: 0.1})
    assert second.specialists == pytest.approx({FLAT: 0.004, GAPS: 0.25})
    assert (second.teachers, second.accepted) == ({FLAT: "student", GAPS: "specialist"}, False)
    assert second.student == pytest.approx({FLAT: -0.02, GAPS: 0.25})
    merges = [stage for stage in ran if isinstance(stage, Merge)]
    assert [m.teachers for m in merges] == [("finetune-1-flat", "finetune-1-gaps"), ("merge-1", "finetune-2-gaps")]
    assert [m.previous for m in merges] == ["student", "merge-1"]
    trainings = [stage for stage in ran if isinstance(stage, Finetune)]
    assert [(t.name, t.start) for t in trainings] == [
        ("finetune-1-flat", "student"), ("finetune-1-gaps", "student"),
        ("finetune-2-flat", "merge-1"), ("finetune-2-gaps", "merge-1"),
    ]  # fmt: skip
    assert len({t.config.seed for t in trainings} | {m.config.seed for m in merges}) == 6
    assert isinstance(ran[0], Existing)
    assert ran[-1] == "merge-1"  # the accepted student is the result
    assert result.steps == 4 * 100 + 7 * 12  # given, nine measurements and two merges
    flat, gaps = result.confirmed[FLAT], result.confirmed[GAPS]
    assert (flat.estimate, flat.low, flat.high) == pytest.approx((0.2, 0.2, 0.2))
    assert (gaps.estimate, gaps.low, gaps.high) == pytest.approx((0.7 / 0.6 - 1, 0.0, 0.5))
    stored = json.loads((tmp_path / "out" / "result.json").read_text())
    assert stored["confirmed"][GAPS]["high"] == pytest.approx(0.5)
    assert stored["student"] == "merge-1"


def test_decisions_and_the_confirming_test_have_tracks_of_their_own(monkeypatch, student, tmp_path):
    ran = scripted(
        monkeypatch,
        {"student": (0.5, 0.4), "finetune-1-flat": (0.6,), "finetune-1-gaps": (0.4,), "merge-1": (0.6, 0.4)},
    )
    measurement = Measurement(episodes=9, seed=4)
    specialize(student, tmp_path / "out", cycles=1, measurement=measurement, seed=1)
    measures = [stage for stage in ran if isinstance(stage, Measure)]
    deciding, confirming = integer_seed(4, "selection"), integer_seed(4, "confirmation", 0)
    assert [(m.name, m.policy, m.seed) for m in measures] == [
        ("measure-student", "student", deciding), ("measure-finetune-1-flat", "finetune-1-flat", deciding),
        ("measure-finetune-1-gaps", "finetune-1-gaps", deciding), ("measure-merge-1", "merge-1", deciding),
        ("confirm-student", "student", confirming), ("confirm-merge-1", "merge-1", confirming),
    ]  # fmt: skip
    assert {m.episodes for m in measures} == {9}
    assert [tuple(s.id for s in m.skills) for m in measures[-2:]] == [(FLAT, GAPS)] * 2
    assert len({deciding, confirming, 4}) == 3


def test_a_skill_without_reward_before_has_no_gain(monkeypatch, student, tmp_path):
    scripted(
        monkeypatch,
        {"student": (0.5, 0.4), "finetune-1-flat": (0.6,), "finetune-1-gaps": (0.4,), "merge-1": (0.6, 0.4)},
        {**NEW, "student": ([0.5, 0.5], [0.4, 0.0])},
    )
    assert specialize(student, tmp_path / "out", cycles=1).confirmed[GAPS] is None


def test_a_cycle_whose_specialists_gain_nothing_merges_nothing(monkeypatch, student, tmp_path):
    ran = scripted(monkeypatch, {"student": (0.5, 0.4), "finetune-1-flat": (0.504,), "finetune-1-gaps": (0.2,)})
    result = specialize(student, tmp_path / "out", gain=0.01)
    (cycle,) = result.cycles
    assert (cycle.teachers, cycle.student, cycle.accepted) == ({}, {}, False)
    assert cycle.specialists == pytest.approx({FLAT: 0.008, GAPS: -0.5})
    assert result.confirmed == {}
    assert not [stage for stage in ran if isinstance(stage, Measure) and stage.name.startswith("confirm")]
    assert not [stage for stage in ran if isinstance(stage, Merge)]
    assert ran[-1] == "student"


def test_the_number_of_cycles_is_bounded(monkeypatch, student, tmp_path):
    rewards = {"student": (0.5, 0.4)}
    for n in (1, 2):
        rewards |= {
            f"finetune-{n}-flat": (0.5 + n / 10,),
            f"finetune-{n}-gaps": (0.4,),
            f"merge-{n}": (0.5 + n / 10, 0.4),
        }
    ran = scripted(monkeypatch, rewards)
    assert [c.accepted for c in specialize(student, tmp_path / "out", cycles=2).cycles] == [True, True]
    assert ran[-1] == "merge-2"


@pytest.mark.parametrize(
    ("options", "message"), [({"cycles": 0}, "cycles is 0"), ({"gain": -0.1}, "gain is"), ({"bound": 2.0}, "bound is")]
)
def test_numbers_out_of_range_are_refused(student, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        specialize(student, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_tiny_run_has_the_students_skills_and_is_not_run_again(student, tmp_path):
    """Whatever two tiny trainings gain: with a gain of 0 the run either merges or says that nothing gained."""
    options = {
        "cycles": 1, "gain": 0.0, "bound": 1.0, "measurement": Measurement(episodes=2), "threads": 1,
        "finetune": replace(TINY.finetune, steps=512), "merge": replace(TINY.merge, start="previous", rounds=1),
    }  # fmt: skip
    result = specialize(student, tmp_path / "out", **options)
    before = load_policy(student / "policy").manifest
    found = load_policy(result.policy_path).manifest
    assert found.skills == (FLAT, GAPS)
    (cycle,) = result.cycles
    assert set(cycle.specialists) == {FLAT, GAPS}
    assert cycle.accepted is (found.weights_sha256 != before.weights_sha256)
    assert bool(cycle.teachers) is (max(cycle.specialists.values()) >= 0.0)
    again = specialize(student, tmp_path / "out", resume=True, **options)
    assert again == SpecializedStudent(result.policy_path, result.cycles, result.steps, result.confirmed)
    assert set(result.confirmed) == ({FLAT, GAPS} if cycle.accepted else set())
    with pytest.raises(ConfigError, match="another configuration"):
        specialize(student, tmp_path / "out", resume=True, **{**options, "gain": 0.5})


def test_the_command_prints_the_gains_that_decided_and_those_to_report(monkeypatch, tmp_path, capsys):
    cycle = module.Cycle({FLAT: 0.04}, {FLAT: "specialist"}, {FLAT: 0.03}, accepted=True)
    confirmed = {FLAT: Interval(0.012, -0.004, 0.03), GAPS: None}
    done = SpecializedStudent(tmp_path / "policy", (cycle,), 12345, confirmed)
    monkeypatch.setattr(module, "specialize", lambda *args, **options: done)
    Specialize(tmp_path).run(Console(width=200))
    assert capsys.readouterr().out.splitlines() == [
        "cycle 1, specialists: biped/flat +4.0%",
        "cycle 1, student: biped/flat +3.0%",
        "cycle 1: accepted",
        "reward per step on new tracks, change in percent: biped/flat +1.2 (-0.4 to +3.0), biped/gaps -",
        f"12,345 environment steps -> {tmp_path / 'policy'}",
    ]


@pytest.mark.parametrize("option", ["finetune", "merge"])
def test_a_wrong_setting_is_refused_with_the_option_that_it_was_given_with(tmp_path, option):
    with pytest.raises(UnknownNameError, match=f"field in --{option} sed=1.*did you mean seed"):
        Specialize(tmp_path, **{option: ("sed=1",)}).run(Console())
