"""Rollback to stages and ancestors, and the stage that lost a skill, from files alone."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from stage_samples import store
from tiny_curriculum import TINY

from policykd.agents.architecture import Architecture
from policykd.agents.files.policy_file import read_manifest, save_policy
from policykd.agents.lineage import forget_skill, trace
from policykd.agents.policy import Policy
from policykd.cli.main import main
from policykd.curriculum.bisect import Bisection, Score, bisect_skill
from policykd.curriculum.plans import make_plan
from policykd.curriculum.rollback import rollback
from policykd.envs.robots import get_robot
from policykd.errors import ConfigError, OutputError, PolicyFileError, UnknownNameError
from policykd.evaluation import Evaluation
from policykd.evaluation.results import RANDOM, Episodes
from policykd.plain import as_plain
from policykd.seeding import integer_seed
from policykd.stats import paired_difference

FLAT = "biped/flat"
ROWS = ("train-flat", "merge-incline", "merge-gaps")


def policy_file(path, seed, skills, parents=(), operation="merge"):
    network = Policy({"proprio": 5}, 11, Architecture((4,), (3,)), generator_seed=seed)
    found = [read_manifest(parent).as_parent(parent.parent.name) for parent in parents]
    save_policy(
        path, network, robot=get_robot("biped"), skills=skills, operation=operation, parents=found, seed=seed
    )  # fmt: skip
    return path


def stage(run, name, seed, skills, parents=()):
    path = policy_file(run / "stages" / name / "policy", seed, skills, parents)
    store(run / "stages" / name / "stage.json", {
        "name": name, "kind": "merge", "steps": 1, "seconds": 1.0, "cpu_seconds": 1.0, "figures": {}})  # fmt: skip
    return path


def cell(rewards, successes=None):
    """Outcomes of episodes with these rewards per step."""
    count = len(rewards)
    done = successes or [reward > 0.5 for reward in rewards]
    return Episodes(tuple(4 * r for r in rewards), tuple(rewards), (4,) * count, (1.0,) * count, tuple(done))


def evaluation(cells, skills=(FLAT,)):
    policies = tuple(dict.fromkeys(policy for policy, _ in cells))
    count = len(next(iter(cells.values())).length)
    return Evaluation(policies, skills, count, 0, False, dict.fromkeys(skills, 4), cells=cells)


def measure(run, name, rewards, **more):
    folder = run / "stages" / f"measure-{name}"
    folder.mkdir(parents=True)
    evaluation({(name, FLAT): cell(rewards), **more.get("cells", {})}).save(folder / "evaluation.json")


@pytest.fixture
def run(tmp_path):
    """A curriculum of three skills, without its measurements and its result."""
    out = tmp_path / "run"
    store(out / "config.json", {"recipe": as_plain(TINY), "seed": 0})
    assert tuple(row.stage for row in make_plan(TINY, 0).rows) == ROWS
    first = stage(out, ROWS[0], 1, [FLAT])
    second = stage(out, ROWS[1], 2, [FLAT, "biped/incline"], [first])
    stage(out, ROWS[2], 3, [FLAT, "biped/incline", "biped/gaps"], [second])
    shutil.copytree(out / "stages" / ROWS[2] / "policy", out / "policy")
    return out


def test_the_stage_that_lost_a_skill_follows_the_last_that_had_it(run):
    rewards = ([0.8, 0.6], [0.8, 0.7], [0.2, 0.4])
    for name, values in zip(ROWS, rewards, strict=True):
        measure(run, name, values)
    found = bisect_skill(run, FLAT)
    assert [score.stage for score in found.scores] == list(ROWS)
    assert [score.label for score in found.scores] == ["flat", "incline", "gaps"]
    assert found.shares == pytest.approx([0.7 / 0.75, 1.0, 0.3 / 0.75])
    assert found.last_good.stage == "merge-incline"
    assert found.lost_by.stage == "merge-gaps"
    assert found.change.estimate == pytest.approx(np.mean(np.subtract(rewards[2], rewards[1])))
    assert found.change.low <= found.change.estimate <= found.change.high < 0
    assert found.change == paired_difference(rewards[2], rewards[1], seed=integer_seed(0, "bisect", FLAT))
    assert found.to_json()["change"]["estimate"] == found.change.estimate
    by_success = bisect_skill(run, FLAT, by="success")
    assert [score.success for score in by_success.scores] == [1.0, 1.0, 0.0]
    assert by_success.change.estimate == -1.0
    assert bisect_skill(run, FLAT, bound=0.65).lost_by is None


def scores(*values, floor=0.0, bound=0.1, by="reward"):
    rows = tuple(Score(str(i), f"stage-{i}", value, value) for i, value in enumerate(values))
    return Bisection(FLAT, by, bound, floor, "a test", rows)


@pytest.mark.parametrize(
    ("values", "last_good", "lost_by"),
    [
        ((1.0, 0.5, 0.5), 0, 1),
        ((1.0, 0.5, 0.95), 2, None),  # it came back
        ((0.2, 1.0, 0.91, 0.89), 2, 3),
        ((1.0, 0.95, 0.5, 0.95, 0.1, 0.2), 3, 4),  # the last loss counts
        ((0.0, 0.0), None, None),
        ((0.0, 0.4), 1, None),
        ((0.7,), 0, None),
    ],
)
def test_last_good_and_lost(values, last_good, lost_by):
    found = scores(*values)
    assert (found.last_good and found.last_good.stage) == (None if last_good is None else f"stage-{last_good}")
    assert (found.lost_by and found.lost_by.stage) == (None if lost_by is None else f"stage-{lost_by}")
    assert found.change is None  # only means


def test_rewards_are_measured_from_random_actions():
    found = scores(-100.0, 300.0, 250.0, floor=-200.0)
    assert found.shares == pytest.approx([0.2, 1.0, 0.9])
    assert found.lost_by is None
    assert scores(-100.0, 300.0, 245.0, floor=-200.0).lost_by.stage == "stage-2"
    assert scores(-300.0, -200.0, floor=-200.0).last_good is None


def test_the_floor_is_that_of_the_evaluation_and_never_one_of_success(run):
    for name, value in zip(ROWS, (0.5, 0.9, 0.6), strict=True):
        measure(run, name, [value, value], cells={(RANDOM, FLAT): cell([0.4, 0.4])})
    assert bisect_skill(run, FLAT).floor == pytest.approx(0.4)
    assert bisect_skill(run, FLAT).shares == pytest.approx([0.2, 1.0, 0.4])
    assert bisect_skill(run, FLAT, by="success").floor == 0.0


def test_an_unfinished_run_is_bisected_as_far_as_it_is(run):
    for name in ROWS[:2]:
        measure(run, name, [0.8, 0.8])
    (run / "stages" / "merge-gaps" / "stage.json").unlink()
    assert [score.stage for score in bisect_skill(run, FLAT).scores] == list(ROWS[:2])


def test_figures_that_are_missing_name_the_command_and_its_file_is_read(run, tmp_path):
    measure(run, ROWS[0], [0.8, 0.8])
    with pytest.raises(ConfigError) as caught:
        bisect_skill(run, FLAT)
    message = str(caught.value)
    for text in (f"policykd evaluate {run / 'stages' / 'train-flat'} ", "--skills biped/flat", "--evaluation"):
        assert text in message
    evaluation({(name, FLAT): cell([v, v]) for name, v in zip(ROWS, (0.9, 0.3, 0.3), strict=True)}).save(run / "b.json")
    found = bisect_skill(run, FLAT, evaluation=run / "b.json")
    assert found.lost_by.stage == "merge-incline"
    assert found.source == str(run / "b.json")
    evaluation({(ROWS[0], FLAT): cell([0.9, 0.9])}).save(run / "b.json")
    with pytest.raises(ConfigError, match="not every stage"):
        bisect_skill(run, FLAT, evaluation=run / "b.json")
    with pytest.raises(OutputError, match="does not exist; it should hold an evaluation"):
        bisect_skill(run, FLAT, evaluation=tmp_path / "none.json")


def test_one_source_serves_all_stages(run):
    """Stages measured on other tracks are not compared: the evaluation of the whole run is used instead."""
    measure(run, ROWS[0], [0.1, 0.1])
    whole = {(name, FLAT): cell([v, v]) for name, v in zip(ROWS, (0.9, 0.8, 0.2), strict=True)}
    evaluation(whole).save(run / "evaluation.json")
    found = bisect_skill(run, FLAT)
    assert found.source == str(run / "evaluation.json")
    assert [score.reward_per_step for score in found.scores] == pytest.approx([0.9, 0.8, 0.2])


def test_wrong_questions_are_refused(run, tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean biped/gaps"):
        bisect_skill(run, "biped/gap")
    with pytest.raises(UnknownNameError, match="unknown measure"):
        bisect_skill(run, FLAT, by="speed")
    with pytest.raises(ConfigError, match="bound is 0"):
        bisect_skill(run, FLAT, bound=0)
    with pytest.raises(ConfigError, match="is not a run with stages"):
        bisect_skill(tmp_path, FLAT)
    shutil.rmtree(run / "stages")
    with pytest.raises(ConfigError, match="no stage of"):
        bisect_skill(run, FLAT)


def test_packages_of_a_recipe_are_imported_only_if_asked(run, tmp_path, monkeypatch):
    (tmp_path / "lin_lab").mkdir()
    (tmp_path / "lin_lab" / "__init__.py").touch()
    (tmp_path / "lin_lab" / "order.py").write_text(
        "from policykd.curriculum import Curriculum\n"
        + "from policykd.curriculum.curricula import plaid\nMINE = Curriculum('as plaid', plaid.build)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    recipe = replace(TINY, curriculum="lin_lab.order:MINE")
    store(run / "config.json", {"recipe": as_plain(recipe), "seed": 0})
    for name in ROWS:
        measure(run, name, [0.8, 0.8])
    with pytest.raises(ConfigError, match=r"names parts of lin_lab.order; .* add --imports"):
        bisect_skill(run, FLAT)
    assert bisect_skill(run, FLAT, imports=True).lost_by is None
    assert bisect_skill(run, FLAT).lost_by is None  # it is imported now


def test_a_student_with_an_added_skill_is_bisected(tmp_path):
    student = stage(tmp_path, "student", 1, [FLAT])
    stage(tmp_path, "merge", 2, [FLAT, "biped/gaps"], [student])
    with pytest.raises(UnknownNameError, match="did you mean biped/gaps"):
        bisect_skill(tmp_path, "biped/gap")
    for name, value in (("student", 0.9), ("merge", 0.5)):
        measure(tmp_path, name, [value, value])
    assert bisect_skill(tmp_path, FLAT).lost_by.label == "after"


def test_the_command_names_the_stage_and_the_way_back(run, capsys, tmp_path):
    for name, value in zip(ROWS, (0.9, 0.9, 0.2), strict=True):
        measure(run, name, [value, value - 0.1])
    out = tmp_path / "bisect.json"
    assert main(["bisect", str(run), "--skill", FLAT, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "stage merge-gaps lost biped/flat; merge-incline still had it: reward per step changed by -0.700" in printed
    assert f"policykd rollback {run} --to merge-incline" in printed
    record = json.loads(out.read_text())
    assert (record["last_good"], record["lost_by"]) == ("merge-incline", "merge-gaps")
    assert [row["share"] for row in record["scores"]] == pytest.approx([1.0, 1.0, 0.15 / 0.85])
    assert main(["bisect", str(run), "--skill", FLAT, "--bound", "0.9"]) == 0
    assert "the last stage, merge-gaps, still has biped/flat" in capsys.readouterr().out
    assert main(["bisect", str(run), "--skill", "biped/incline"]) == 2
    assert "policykd evaluate" in capsys.readouterr().err


def same(first, second):
    names = ("manifest.json", "weights.safetensors")
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_rollback_to_a_stage_is_an_exact_copy(run, tmp_path):
    found = rollback(run, "merge-incline", tmp_path / "back")
    assert same(tmp_path / "back", run / "stages" / "merge-incline" / "policy")
    assert found.lacking == ("biped/gaps",)
    assert found.manifest.parents[0].weights_sha256 == read_manifest(run / "stages" / "train-flat").weights_sha256
    with pytest.raises(OutputError, match="exists"):
        rollback(run, "merge-incline", tmp_path / "back")


def test_rollback_to_an_ancestor_by_name_and_by_hash(run, tmp_path):
    wanted = run / "stages" / "train-flat" / "policy"
    manifest = read_manifest(wanted)
    rollback(run / "policy", "train-flat", tmp_path / "by-name")
    for i, name in enumerate((manifest.weights_sha256[:6], manifest.content_sha256[:12].upper())):
        rollback(run, name, tmp_path / f"by-hash-{i}")
        assert same(tmp_path / f"by-hash-{i}", wanted)
    assert same(tmp_path / "by-name", wanted)
    with pytest.raises(UnknownNameError, match="did you mean merge-gaps"):
        rollback(run, "merge-gap", tmp_path / "none")
    with pytest.raises(UnknownNameError):
        rollback(run, manifest.weights_sha256[:5], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_rollback_needs_a_file(run, tmp_path, tmp_path_factory):
    moved = tmp_path_factory.mktemp("elsewhere") / "stages"
    shutil.move(run / "stages", moved)
    with pytest.raises(OutputError, match=r"the file of ancestor merge-incline .* was not found"):
        rollback(run, "merge-incline", tmp_path / "a" / "back")
    found = rollback(run, "merge-incline", tmp_path / "a" / "back", search=[moved])
    assert found.source == moved.resolve() / "merge-incline" / "policy"


def test_rollback_to_an_unfinished_stage_is_refused(run, tmp_path):
    (run / "stages" / "merge-incline" / "stage.json").unlink()
    with pytest.raises(OutputError, match="is not finished"):
        rollback(run, "merge-incline", tmp_path / "back")


def test_a_curriculum_without_a_last_policy_has_stages_only(run, tmp_path):
    shutil.rmtree(run / "policy")
    assert rollback(run, "train-flat", tmp_path / "back").lacking is None
    with pytest.raises(UnknownNameError, match="train-flat"):
        rollback(run, "train-flad", tmp_path / "none")
    with pytest.raises(PolicyFileError):
        rollback(tmp_path / "nowhere", "train-flat", tmp_path / "none")


def test_ancestors_of_one_name_are_told_apart_by_hash(run, tmp_path):
    """The list of a policy was shortened: both files have the same weights."""
    forget_skill(run, "biped/gaps", run / "short" / "policy")
    forget_skill(run / "short", "biped/incline", run / "shorter" / "policy")
    both = read_manifest(run / "policy").weights_sha256[:8]
    with pytest.raises(ConfigError, match=r"2 ancestors are called .*biped/flat, biped/incline\)"):
        rollback(run / "shorter", both, tmp_path / "back")
    key = read_manifest(run / "short").content_sha256
    assert rollback(run / "shorter", key[:8], tmp_path / "back").manifest.skills == (FLAT, "biped/incline")


def test_the_rollback_command_says_what_is_lacking(run, tmp_path, capsys):
    assert main(["rollback", str(run), "--to", "train-flat", "--out", str(tmp_path / "back")]) == 0
    assert "biped/flat; without biped/incline, biped/gaps" in capsys.readouterr().out
    assert main(["rollback", str(run), "--to", "train-flat", "--out", str(tmp_path / "back")]) == 2
    assert "exists" in capsys.readouterr().err


def test_a_real_run_is_followed_from_its_files(finished, tmp_path):
    out, result = finished
    lineage = trace(out)
    assert lineage.missing == []
    assert {r.path.parent.name for key, r in lineage.policies.items() if key != lineage.root} == {
        "train-flat", "train-incline", "inject", "merge-incline", "train-gaps",
    }  # fmt: skip
    for j, skill in enumerate(result.matrix.skills):
        found = bisect_skill(out, skill)
        assert found.source.endswith("measure-*/evaluation.json")
        recorded = [row[j] for row in result.matrix.scores]
        assert [score.reward_per_step for score in found.scores] == pytest.approx(recorded)
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    for folder in (copy / "stages").glob("measure-*"):
        shutil.rmtree(folder)
    first = bisect_skill(copy, FLAT)
    (copy / "evaluation.json").unlink()
    second = bisect_skill(copy, FLAT)
    assert (first.source, second.source) == (str(copy / "evaluation.json"), str(copy / "curriculum.json"))
    assert second.shares == pytest.approx(first.shares)
    assert second.scores == tuple(replace(score, episodes=None) for score in first.scores)
    rollback(copy, "merge-incline", tmp_path / "back")
    assert same(tmp_path / "back", out / "stages" / "merge-incline" / "policy")
