import dataclasses
import io
import json
import sys

import pytest
import torch
from rich.console import Console

from policykd.agents.policy import Architecture, Policy
from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.skills import get_skill
from policykd.errors import ConfigError, ContractError, OutputError, UnknownNameError
from policykd.evaluation import Evaluation, evaluate, evaluation_table
from policykd.progress import Silent
from policykd.seeding import integer_seed

SKILLS = [dataclasses.replace(get_skill(name), episode_steps=24) for name in ("biped/flat", "biped/steps")]
BLIND = ("proprio",)


def make_policy(seed, groups=None):
    policy = Policy(groups or SKILLS[0].group_sizes, 11, Architecture((16,), (8,)), generator_seed=seed)
    policy.actor[-1].weight.data *= 60  # far from standing still, so that episodes differ
    return policy


POLICIES = {"a": make_policy(0), "b": make_policy(1), "blind": make_policy(2, {"proprio": 49})}


def run(policies=POLICIES, **options):
    return evaluate(policies, SKILLS, episodes=6, **{"threads": 1, **options})


@pytest.fixture(scope="module")
def result():
    return run(experts={"biped/flat": "a"})


def test_every_cell_has_every_episode(result):
    assert set(result.cells) == {(p, s.id) for p in POLICIES for s in SKILLS}
    for cell in result.cells.values():
        for field in dataclasses.fields(cell):
            assert len(getattr(cell, field.name)) == 6
        for total, per_step, alive, length in zip(
            cell.total_reward, cell.reward_per_step, cell.reward_while_up, cell.length, strict=True
        ):
            assert per_step == pytest.approx(total / 24)
            assert alive == pytest.approx(total / length)
            assert 1 <= length <= 24


def test_policies_share_tracks_and_initial_states():
    """The same policy under two names, with another one run in between, has the same episodes."""
    result = run({"first": POLICIES["a"], "other": POLICIES["b"], "again": POLICIES["a"]})
    for skill in result.skills:
        assert result.cells["first", skill] == result.cells["again", skill]
        assert result.cells["first", skill] != result.cells["other", skill]


def test_seed_threads_and_noise():
    base = run({"a": POLICIES["a"]})
    assert run({"a": POLICIES["a"]}, threads=2).cells == base.cells
    assert run({"a": POLICIES["a"]}, seed=1).cells != base.cells
    noisy = run({"a": POLICIES["a"]}, noise=True)
    assert noisy.cells != base.cells
    torch.rand(7)
    assert run({"a": POLICIES["a"]}, noise=True).cells == noisy.cells


def test_tracks_are_one_per_episode_and_not_those_of_training(monkeypatch):
    environments = []

    class Spy(BatchedEnv):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            environments.append(self)

    monkeypatch.setattr(sys.modules[evaluate.__module__], "make_env", Spy)
    evaluate({"a": POLICIES["a"]}, [SKILLS[1]], episodes=3, threads=1)
    (env,) = environments

    def tracks(env):
        return torch.stack([env.track(i).left[0, :30] for i in range(3)])

    walked = tracks(env)
    assert len(torch.unique(walked, dim=0)) == 3, "after every simulation began anew, track i is still under i"
    for other in (0, *(integer_seed(0, purpose) for purpose in ("training", "validation", "collection"))):
        trained = BatchedEnv([SKILLS[1]], 3, seed=other, config=EnvConfig(tracks=3, ordered=True), threads=1)
        trained.reset()
        assert not torch.equal(walked, tracks(trained))


def test_blind_policy_ignores_the_groups_that_it_does_not_read(result):
    alone = evaluate(
        {"blind": POLICIES["blind"]},
        [dataclasses.replace(skill, groups=BLIND) for skill in SKILLS],
        episodes=6,
        threads=1,
    )
    assert alone.cells["blind", "biped/steps"] == result.cells["blind", "biped/steps"]


def test_policy_that_does_not_fit_is_named_before_anything_runs():
    blind_skill = dataclasses.replace(SKILLS[0], groups=BLIND)
    with pytest.raises(ContractError, match=r"policy 'a'.*'terrain' \(50\).*biped/flat.*proprio \(49\)"):
        evaluate({"a": POLICIES["a"]}, [blind_skill], episodes=2)
    with pytest.raises(ContractError, match=r"'small' has 3 actions.*11 joints"):
        evaluate({"small": Policy({"proprio": 49}, 3)}, SKILLS, episodes=2)


def test_bad_arguments():
    for policies, skills in (({}, SKILLS), (POLICIES, []), (POLICIES, [SKILLS[0], SKILLS[0]])):
        with pytest.raises(ConfigError, match="at least one"):
            evaluate(policies, skills)
    with pytest.raises(ConfigError, match="episodes"):
        evaluate(POLICIES, SKILLS, episodes=0)
    with pytest.raises(UnknownNameError, match="biped/flat"):
        run(experts={"biped/flot": "a"})
    with pytest.raises(UnknownNameError, match="blind"):
        run(experts={"biped/flat": "bland"})


def test_retention_against_the_named_expert(result):
    own = result.summaries["a", "biped/flat"]
    assert (own.retention.low, own.retention.estimate, own.retention.high) == pytest.approx((1, 1, 1))
    assert own.shortfall.estimate == 0
    other = result.summaries["b", "biped/flat"].retention
    means = [sum(result.cells[p, "biped/flat"].reward_per_step) for p in ("b", "a")]
    assert other.estimate == pytest.approx(means[0] / means[1])
    assert other.low < other.estimate < other.high
    assert result.summaries["a", "biped/steps"].retention is None


def test_json_round_trip(result, tmp_path):
    result.save(tmp_path / "evaluation.json")
    loaded = Evaluation.load(tmp_path / "evaluation.json")
    assert loaded == result
    assert loaded.summaries == result.summaries
    content = json.loads((tmp_path / "evaluation.json").read_text())
    flat = next(c for c in content["cells"] if (c["policy"], c["skill"]) == ("b", "biped/flat"))
    assert flat["distance"] == list(result.cells["b", "biped/flat"].distance)
    assert flat["summary"]["success"]["estimate"] == result.summaries["b", "biped/flat"].success.estimate


def test_files_that_are_no_evaluation(tmp_path):
    with pytest.raises(OutputError, match="should hold an evaluation"):
        Evaluation.load(tmp_path / "none.json")
    for content, word in (({}, "format"), ({"format_version": 2}, "format 2"), ({"format_version": 1}, "policies")):
        (tmp_path / "e.json").write_text(json.dumps(content))
        with pytest.raises(OutputError, match=word):
            Evaluation.load(tmp_path / "e.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cells": {}}, "cells is {}; it must be a list"),
        ({"cells": [{"policy": "expert"}]}, r"cells\[0\].*skill are missing"),
        ({"skills": "biped/flat"}, "skills is 'biped/flat'; it must be a list"),
        ({"seed": "zero"}, "seed is 'zero'"),
    ],
)
def test_garbled_evaluations_name_the_file_and_the_field(result, tmp_path, change, message):
    (tmp_path / "e.json").write_text(json.dumps({**result.to_json(), **change}))
    with pytest.raises(OutputError, match=rf"e\.json is not valid: {message}.*; evaluate again"):
        Evaluation.load(tmp_path / "e.json")


def test_table_shows_every_cell(result):
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(evaluation_table(result))
    text = console.export_text()
    for (policy, skill), summary in result.summaries.items():
        line = next(row for row in text.splitlines() if skill in row and f" {policy} " in row)
        assert f"{summary.reward_per_step.estimate:.3f} (" in line
        assert ("*" in line) == ((policy, skill) == ("a", "biped/flat"))


def test_progress_reports_the_success_of_every_cell():
    seen = []

    class Watched(Silent):
        def update(self, name, done, **figures):
            seen.append((done, figures["success"]))

    found = run(progress=Watched())
    success = [cell.success for cell in found.cells.values()]
    assert seen == [(i + 1, pytest.approx(sum(own) / len(own))) for i, own in enumerate(success)]
