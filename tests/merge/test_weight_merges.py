"""Policy files that are merged in weight space: checks, common ancestors, lineage, the command, a start of a merge."""

import shutil
from dataclasses import replace

import pytest
import torch
from teacher_samples import TINY, make_teacher
from weight_samples import SIZES, draws, keep, loaded, moved, new_policy, seen, states

from policykd.agents.architecture import Architecture, Memory
from policykd.agents.files.policy_file import load_policy, read_manifest, save_policy
from policykd.agents.lineage import trace
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import RecurrentPolicy
from policykd.cli.main import main
from policykd.envs.foreign.skill import gym_skill
from policykd.envs.skills import get_skill
from policykd.envs.symmetry import mirror_symmetry
from policykd.errors import ConfigError, ContractError, OutputError
from policykd.merge.student import first_student
from policykd.merge.weights import WeightMergeConfig, common_ancestor, merge_weights
from policykd.merge.weights.contract import obstacles

ARITHMETIC = WeightMergeConfig("task-arithmetic", scale=1.0)


@pytest.fixture
def family(tmp_path):
    """A student and two policies that were trained from it, with other weights and statistics."""
    start = keep(tmp_path / "start" / "policy", new_policy(1))
    for i, name in enumerate(("gaps", "steps")):
        child = seen(moved(loaded(start), 5 + i), 5 + i, 30, 2.0, 0.5)
        keep(tmp_path / name / "policy", child, [f"biped/{name}"], [start])
    return tmp_path


def test_an_average_has_all_skills_and_parents(family):
    paths = [family / "gaps", family / "steps"]
    result = merge_weights(paths, family / "merged")
    manifest = read_manifest(family / "merged")
    assert manifest == result.manifest
    assert manifest.skills == ("biped/gaps", "biped/steps")
    assert manifest.operation == "merge-weights"
    hashes = [read_manifest(path).weights_sha256 for path in paths]
    assert [parent.weights_sha256 for parent in manifest.parents] == hashes
    assert manifest.config == {"method": "average", "scale": None, "density": None, "seed": 0}
    assert (manifest.metrics, result.ancestor, result.related) == ({}, None, True)
    merged, parts = loaded(family / "merged"), [loaded(path) for path in paths]
    # Statistics count what each policy has seen: 50 observations of the start and 30 of its own.
    assert float(merged.normalizer.count) == 160.0
    torch.testing.assert_close(merged.log_std, torch.stack([p.log_std for p in parts]).mean(dim=0))
    assert len(trace(family / "merged").policies) == 4
    with pytest.raises(OutputError, match="exists"):
        merge_weights(paths, family / "merged")


def test_task_arithmetic_finds_the_ancestor(family):
    paths = [family / "gaps", family / "steps"]
    result = merge_weights(paths, family / "merged", ARITHMETIC)
    assert result.ancestor == (family / "start" / "policy").resolve()
    assert result.related
    assert result.manifest.parents[-1].name == "ancestor"
    assert set(result.delta_norms) == {"gaps", "steps"}
    assert result.manifest.metrics["delta_norms"] == result.delta_norms
    assert 0.0 < result.sign_conflicts < 1.0
    assert result.manifest.metrics["sign_conflicts"] == result.sign_conflicts
    given = merge_weights(paths, family / "given", ARITHMETIC, ancestor=family / "start")
    assert given.manifest.weights_sha256 == result.manifest.weights_sha256
    assert given.manifest.config["scale"] == 1.0
    # The parts of one network: near the ancestor, small deltas add up almost as functions.
    merged, start, gaps, steps = (loaded(family / n) for n in ("merged", "start", "gaps", "steps"))
    x = states(start)
    with torch.no_grad():
        expected = gaps(x) + steps(x) - start(x)
        assert (merged(x) - expected).abs().mean() < 0.25 * (gaps(x) + steps(x) - 2 * start(x)).abs().mean()


def test_a_policy_may_be_the_ancestor_of_the_other(family):
    result = merge_weights([family / "start", family / "gaps"], family / "merged", ARITHMETIC)
    assert len(result.manifest.parents) == 2
    assert result.delta_norms["start"] == pytest.approx(0.0, abs=1e-9)
    merged, gaps = loaded(family / "merged"), loaded(family / "gaps")
    x = states(gaps)
    torch.testing.assert_close(merged(x), gaps(x), atol=1e-4, rtol=1e-4)


def test_an_ancestor_that_is_not_found_is_named(family, tmp_path_factory):
    away = tmp_path_factory.mktemp("away")
    shutil.move(family / "start", away / "start")
    paths = [family / "gaps", family / "steps"]
    with pytest.raises(ContractError, match=r"nearest common ancestor, start \[.*was not found; name its folder"):
        merge_weights(paths, family / "merged", ARITHMETIC)
    assert not (family / "merged").exists()
    assert merge_weights(paths, family / "merged", ARITHMETIC, search=[away]).related


def test_policies_without_a_common_ancestor_are_averaged_only(family, tmp_path_factory):
    lone = keep(tmp_path_factory.mktemp("lone") / "run" / "policy", new_policy(9), ["biped/walls"])
    paths = [family / "gaps", lone]
    with pytest.raises(ContractError, match="no policy in common; give the policy"):
        merge_weights(paths, family / "merged", ARITHMETIC)
    assert not merge_weights(paths, family / "merged").related
    given = merge_weights(paths, family / "given", ARITHMETIC, ancestor=family / "start")
    assert not given.related


def test_lost_parents_are_named_where_nothing_is_in_common(family, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    origin = keep(other / "origin" / "policy", new_policy(8))
    child = keep(other / "child" / "policy", moved(loaded(origin), 3), parents=[origin])
    shutil.rmtree(other / "origin")
    with pytest.raises(ContractError, match="the files of origin were not found"):
        merge_weights([family / "gaps", child], family / "merged", ARITHMETIC)


def test_the_nearest_ancestor_counts(family):
    middle = family / "gaps" / "policy"
    paths = {}
    for i, name in enumerate(("a", "b")):
        paths[name] = keep(family / name / "policy", moved(loaded(middle), 20 + i), [f"biped/{name}"], [middle])
    assert common_ancestor(paths) == middle.resolve()
    paths["steps"] = family / "steps"
    assert common_ancestor(paths) == (family / "start" / "policy").resolve()


def test_two_ancestors_that_are_equally_near_are_refused(family):
    paths = {}
    for i, name in enumerate(("a", "b")):
        parents = [family / "gaps" / "policy", family / "steps" / "policy"]
        paths[name] = keep(family / name / "policy", moved(loaded(parents[0]), 20 + i), parents=parents)
    with pytest.raises(ContractError, match="several common ancestors are equally near"):
        common_ancestor(paths)


def test_an_ancestor_of_another_shape_is_passed_over_or_named(family):
    small = keep(family / "small" / "policy", new_policy(4, Architecture((4,), (12,), "tanh", 0.3)))
    paths = {}
    for i, name in enumerate(("a", "b")):
        paths[name] = keep(family / name / "policy", new_policy(20 + i), parents=[small])
    with pytest.raises(ContractError, match="cannot be subtracted; it differs in architecture"):
        common_ancestor(paths)
    with pytest.raises(ContractError, match=r"the ancestor .*small.* cannot be added; they differ in architecture"):
        merge_weights(list(paths.values()), family / "merged", ARITHMETIC, ancestor=small)


def test_everything_that_differs_is_named(family):
    manifest = read_manifest(family / "start")
    assert obstacles(manifest, manifest) == []
    first = manifest.actions[0]
    noise = replace(manifest.architecture, initial_std=0.1)
    assert obstacles(manifest, replace(manifest, architecture=noise, seed=5, skills=("biped/x",))) == []
    symmetry = mirror_symmetry(tuple(manifest.groups), get_skill("biped/flat").robot)
    for changes, what in (
        ({"architecture": replace(manifest.architecture, critic_hidden=(3,))}, "architecture"),
        ({"groups": dict(list(manifest.groups.items())[::-1])}, "observation groups"),
        ({"actions": manifest.actions[1:]}, "number of actions"),
        ({"actions": (replace(first, stiffness=1.5), *manifest.actions[1:])}, f"action {first.joint}"),
        ({"min_std": 0.01}, "lower bound"),
        ({"clip": 5.0}, "clip"),
        ({"robot": "dog"}, "robot"),
        ({"model_sha256": "0"}, "model of the robot"),
        ({"control_dt": 0.5}, "time between actions"),
        ({"symmetry": symmetry}, "exchange of left and right"),
    ):
        (found,) = obstacles(manifest, replace(manifest, **changes))
        assert found.startswith(what)
    gym = replace(manifest, skills=("gym:A-v1",))
    assert obstacles(gym, replace(gym, skills=("gym:B-v1",), robot="other", control_dt=1.0)) == []
    assert len(obstacles(manifest, replace(gym, robot="other"))) == 1


def test_policies_that_do_not_fit_are_refused(family):
    wide = family / "wide"
    keep(wide / "policy", new_policy(4, Architecture((99,), (12,), "tanh", 0.3)))
    with pytest.raises(ContractError, match=r"of gaps and wide cannot be added; they differ in architecture.hidden: "):
        merge_weights([family / "gaps", wide], family / "merged")
    with pytest.raises(ConfigError, match="1 policies were given"):
        merge_weights([family / "gaps"], family / "merged")
    with pytest.raises(ConfigError, match="given twice"):
        merge_weights([family / "gaps", family / "gaps"], family / "merged")
    with pytest.raises(ConfigError, match="uses no ancestor"):
        merge_weights([family / "gaps", family / "steps"], family / "merged", ancestor=family / "start")
    memory = RecurrentPolicy(SIZES, 11, Architecture((4,), (4,), memory=Memory("gru", 3)), 0)
    kept = keep(family / "memory" / "policy", memory)
    with pytest.raises(ContractError, match="merge-weights needs a policy without memory"):
        merge_weights([family / "gaps", kept], family / "merged")
    assert not (family / "merged").exists()


def test_two_skills_of_one_name_are_refused(family):
    record = {"biped/gaps": {"other": 1}}
    twin = keep(family / "twin" / "policy", moved(loaded(family / "gaps"), 3), ["biped/gaps"], skill_records=record)
    with pytest.raises(ContractError, match="different skills that are called biped/gaps"):
        merge_weights([family / "gaps", twin], family / "merged")


def test_symmetric_policies_stay_symmetric(tmp_path):
    symmetry = mirror_symmetry(tuple(SIZES), get_skill("biped/flat").robot)
    first = new_policy(1, symmetry=symmetry)
    start = keep(tmp_path / "a" / "policy", first)
    child = keep(tmp_path / "b" / "policy", seen(moved(first, 2), 3), parents=[start])
    merge_weights([start, child], tmp_path / "merged")
    merged = loaded(tmp_path / "merged")
    x = states(merged)
    mirrored = x[:, merged._mirrored_features]
    if merged._feature_signs is not None:
        mirrored = mirrored * merged._feature_signs
    torch.testing.assert_close(merged(mirrored), merged.oriented(merged(x), torch.ones(len(x), dtype=torch.bool)))


def test_policies_of_an_environment_are_merged(tmp_path):
    pytest.importorskip("gymnasium")
    skill = gym_skill("gym:Pendulum-v1")
    paths = []
    for seed in (1, 2):
        policy = Policy(skill.group_sizes, skill.robot.num_actions, Architecture((4,), (4,)), seed)
        policy.normalizer.update(torch.randn(20, policy.observation_size, generator=draws(seed)))
        paths.append(tmp_path / f"run-{seed}" / "policy")
        save_policy(paths[-1], policy, robot=skill.robot, skills=[skill.id], operation="train", seed=seed)
    manifest = merge_weights(paths, tmp_path / "merged").manifest
    assert manifest.skills == ("gym:Pendulum-v1",)
    assert manifest.robot == read_manifest(paths[0]).robot


def test_a_merge_starts_from_it(family):
    merge_weights([family / "gaps", family / "steps"], family / "merged")
    init = load_policy(family / "merged")
    teachers = [make_teacher("biped/gaps", 1), make_teacher("biped/steps", 2)]
    student = first_student(teachers, replace(TINY, start="previous"), init)
    x = states(init.policy)
    torch.testing.assert_close(student(x), init.policy(x))


def test_the_command_merges_and_refuses(family, capsys, monkeypatch):
    monkeypatch.chdir(family)
    assert main(["merge-weights", "gaps", "steps", "--method", "ties", "--scale", "0.7", "--out", "merged"]) == 0
    printed = capsys.readouterr().out
    for text in ("ties of 2 policies: biped/gaps, biped/steps", "common ancestor start/policy", "norms of the deltas",
                 "not validated"):  # fmt: skip
        assert text in printed
    assert "their lineages" not in printed
    assert read_manifest(family / "merged").config == {"method": "ties", "scale": 0.7, "density": 0.2, "seed": 0}
    keep(family / "lone" / "policy", new_policy(9), ["biped/walls"])
    assert main(["merge-weights", "gaps", "lone", "--out", "average"]) == 0
    assert "their lineages have no policy in common" in capsys.readouterr().out
    assert main(["merge-weights", "gaps", "lone", "--method", "dare", "--out", "none"]) == 2
    assert "no policy in common" in capsys.readouterr().err
    assert main(["merge-weights", "gaps", "lone", "--ancestor", "start", "--out", "none"]) == 2
    assert "uses no ancestor" in capsys.readouterr().err
