"""The distiller: the student becomes its teachers, and a killed merge goes on as if nothing happened."""

import json
from dataclasses import replace

import pytest
import torch
from teacher_samples import make_teacher

from policykd.agents.architecture import Architecture, Encoder
from policykd.agents.files.policy_file import load_policy
from policykd.agents.policy import Policy
from policykd.envs.batched_env import BatchedEnv
from policykd.envs.randomization import Randomization
from policykd.errors import ConfigError, OutputError, UnknownNameError
from policykd.merge import LabeledData, MergeConfig, merge_experts, teachers_from
from policykd.merge.collect import ActionNoise, Collection, collect
from policykd.merge.config import LOSS_NAMES
from policykd.merge.critic import value_targets
from policykd.merge.distiller import _Merge
from policykd.merge.losses import LOSSES
from policykd.merge.retention import Score
from policykd.seeding import integer_seed

SMALL = MergeConfig(
    rounds=3,
    envs=8,
    updates=20,
    minibatch=64,
    validation_episodes=2,
    target_retention=2.0,
    min_teacher_success=0.0,
    threads=1,
    architecture=Architecture(hidden=(64, 64), critic_hidden=(32,)),
)


def collected(teacher, policy, env, beta, seed):
    source = Collection(teacher, env, ActionNoise(0.1), torch.Generator().manual_seed(seed))
    return collect([source], policy, beta=beta, mixing="episode")[0]


@pytest.fixture(scope="module")
def unseen():
    """States of each teacher's own episodes that no merge has seen, with its labels."""
    found = []
    for skill, seed in (("biped/flat", 1), ("biped/gaps", 2)):
        teacher = make_teacher(skill, seed)
        env = BatchedEnv([teacher.skill], 16, seed=99, threads=1)
        found.append(collected(teacher, teacher.policy, env, beta=1.0, seed=7))
    return found


@torch.no_grad()
def disagreement(policy, rollout):
    """Return the mean squared error to the labels."""
    return float((policy(rollout.observations) - rollout.labels).square().mean())


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_the_student_becomes_its_teachers(teachers, unseen, tmp_path, loss):
    config = replace(SMALL, rounds=2, updates=60, minibatch=256, critic="none", loss=loss)
    result = merge_experts(teachers, tmp_path / "student", config)
    student = load_policy(result.policy_path).policy
    untrained = Policy(teachers[0].skill.group_sizes, teachers[0].policy.actions, SMALL.architecture, 0)
    for rollout in unseen:
        assert disagreement(student, rollout) < 0.4 * disagreement(untrained, rollout)


def test_lineage_and_size_of_the_student(teachers, tmp_path):
    loaded = load_policy(merge_experts(teachers, tmp_path / "student", replace(SMALL, rounds=1)).policy_path)
    assert loaded.manifest.operation == "merge"
    assert loaded.manifest.skills == ("biped/flat", "biped/gaps")
    assert [p.weights_sha256 for p in loaded.manifest.parents] == [t.weights_sha256 for t in teachers]
    assert loaded.policy.architecture.hidden == (64, 64)


def test_teachers_do_not_change(teachers, tmp_path):
    before = [{k: v.clone() for k, v in t.policy.state_dict().items()} for t in teachers]
    merge_experts(teachers, tmp_path / "student", replace(SMALL, rounds=1))
    for teacher, weights in zip(teachers, before, strict=True):
        assert all(torch.equal(v, weights[k]) for k, v in teacher.policy.state_dict().items())


def test_only_good_validations_in_a_row_end_a_merge(teachers, tmp_path, monkeypatch):
    """Good, poor, good, good: the second good one in a row is that of round 4."""
    kept = iter([1.0, 0.5, 1.0, 1.0, 1.0, 1.0])

    class Scripted:
        def __init__(self, teachers, config, *, group):
            self.ids = [teacher.skill.id for teacher in teachers]

        def measure(self, student):
            value = next(kept)
            same, none = dict.fromkeys(self.ids, value), dict.fromkeys(self.ids, 0.0)
            return Score(same, same, same, none)

    monkeypatch.setattr("policykd.merge.distiller.StudentValidation", Scripted)
    config = replace(SMALL, rounds=6, envs=2, updates=1, minibatch=16, target_retention=0.9)
    result = merge_experts(teachers, tmp_path / "student", config)
    assert (result.rounds, result.reached_target) == (4, True)


def test_networks_are_trained_on_one_thread(teachers, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(_Merge, "go", lambda self, validation: seen.append(torch.get_num_threads()))
    torch.set_num_threads(3)
    try:
        with pytest.raises(AssertionError):  # a merge without a result
            merge_experts(teachers, tmp_path / "student", replace(SMALL, threads=1))
    finally:
        torch.set_num_threads(1)
    assert seen == [1]


class Killed(Exception):
    pass


def test_a_killed_merge_equals_an_uninterrupted_one(teachers, tmp_path, monkeypatch):
    """The second round is killed in its fit, then in its validation, then before it is saved."""
    whole = load_policy(merge_experts(teachers, tmp_path / "whole", SMALL).policy_path).policy
    for moment, number in (("_fit", 1), ("_measure", 1), ("_save", 2)):
        original = getattr(_Merge, moment)

        def dying(self, *args, original=original, number=number):
            if self._round == number:
                raise Killed
            return original(self, *args)

        with monkeypatch.context() as patch:
            patch.setattr(_Merge, moment, dying)
            with pytest.raises(Killed):
                merge_experts(teachers, tmp_path / "killed", SMALL, resume=moment != "_fit")
    with pytest.raises(OutputError, match="--resume"):
        merge_experts(teachers, tmp_path / "killed", SMALL)
    resumed = load_policy(merge_experts(teachers, tmp_path / "killed", SMALL, resume=True).policy_path).policy
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_finished_merge_is_not_run_again(teachers, tmp_path, monkeypatch):
    first = merge_experts(teachers, tmp_path / "student", replace(SMALL, rounds=1))
    monkeypatch.setattr(_Merge, "go", lambda self, _: pytest.fail("ran again"))
    assert merge_experts(teachers, tmp_path / "student", replace(SMALL, rounds=1), resume=True) == first


def test_critic_knows_the_students_returns(tmp_path):
    """Its error on fresh, whole returns of the student is far below that of the best constant; the actor stays."""
    teachers = [make_teacher("biped/flat", 2, episode_steps=128)]  # long enough to fall: the returns are known
    config = replace(SMALL, rounds=1, updates=250, minibatch=128)
    student = load_policy(merge_experts(teachers, tmp_path / "with", config).policy_path).policy
    without = load_policy(merge_experts(teachers, tmp_path / "without", replace(config, critic="none")).policy_path)
    for name, value in without.policy.actor.state_dict().items():
        assert torch.equal(value, student.actor.state_dict()[name])
    env = BatchedEnv([teachers[0].skill], 32, seed=5, threads=1)
    rollout = collected(teachers[0], student, env, beta=0.0, seed=1)

    def unexplained(policy):
        rows, targets = value_targets(student, rollout, gamma=config.gamma, gae_lambda=1.0)
        with torch.no_grad():
            return float((policy.value(rollout.observations[rows]) - targets).square().mean() / targets.var())

    assert unexplained(student) < 0.5 < 1 < unexplained(without.policy)


EVERYTHING = {
    "noise_model": "dart",
    "aggregation": "last:2",
    "adaptive": 0.5,
    "gap_memory": 0.5,
    "support": 6.0,
    "batched_teachers": True,
    "start": "newest",
    "critic": "teacher",
    "beta": "plaid_paper:300",
}


def test_a_killed_merge_with_every_option_equals_an_uninterrupted_one(teachers, tmp_path, monkeypatch):
    config = replace(SMALL, updates=20, **EVERYTHING)
    whole = merge_experts(teachers, tmp_path / "whole", config)
    original = _Merge._fit

    def dying(self):
        if self._round == 2:
            raise Killed
        return original(self)

    monkeypatch.setattr(_Merge, "_fit", dying)
    with pytest.raises(Killed):
        merge_experts(teachers, tmp_path / "killed", config)
    monkeypatch.undo()
    resumed = merge_experts(teachers, tmp_path / "killed", config, resume=True)
    hashes = [load_policy(r.policy_path).manifest.weights_sha256 for r in (whole, resumed)]
    assert hashes[0] == hashes[1]
    assert (resumed.masked, resumed.states_to_retention) == (whole.masked, whole.states_to_retention)


def test_adaptive_shares_move_simulations_to_the_larger_gap(teachers, tmp_path):
    """One teacher is easy to keep up with (the student is its copy), the other is not."""
    config = replace(
        SMALL, rounds=2, updates=1, learning_rate=1e-8, start="biped/flat", adaptive=0.9, beta="constant:0"
    )
    merge_experts(teachers, tmp_path / "student", config)
    rows = [json.loads(line) for line in (tmp_path / "student" / "progress.jsonl").read_text().splitlines()]
    gap = {s: max(0.0, 1 - r) for s, r in rows[0]["retention"].items()}
    shards = LabeledData.open(tmp_path / "student").manifest.shards
    counts = {s.skill: s.simulations for s in shards if s.round == 1}
    assert sum(counts.values()) == 2 * SMALL.envs
    assert {s.simulations for s in shards if s.round == 0} == {SMALL.envs}
    assert max(counts, key=counts.get) == max(gap, key=gap.get)
    assert counts["biped/flat"] != counts["biped/gaps"]


@pytest.mark.parametrize(("memory", "expected"), [(0.0, [(6, 10), (12, 4), (8, 8)]), (0.5, [(6, 10), (9, 7), (9, 7)])])
def test_gaps_are_averaged_over_the_validations(teachers, tmp_path, monkeypatch, memory, expected):
    """Gaps of the skills 0.1 and 0.3, then 0.3 and 0, then none; a half of 16 simulations follows them."""
    gaps = iter([(0.1, 0.3), (0.3, 0.0), (0.0, 0.0), (0.0, 0.0)])

    def measure(self, student):
        one, other = next(gaps)
        ids = [teacher.skill.id for teacher in teachers]
        return Score(
            dict.fromkeys(ids, 1.0), dict.fromkeys(ids, 1.0), dict(zip(ids, (1 - one, 1 - other), strict=True)),
            dict.fromkeys(ids, 0.0),
        )  # fmt: skip

    monkeypatch.setattr("policykd.merge.retention.StudentValidation.measure", measure)
    config = replace(SMALL, rounds=4, updates=1, adaptive=0.5, gap_memory=memory, critic="none")
    merge_experts(teachers, tmp_path, config)
    shards = LabeledData.open(tmp_path).manifest.shards
    counts = [tuple(s.simulations for s in shards if s.round == round_) for round_ in range(4)]
    assert counts == [(8, 8), *expected]


def test_losses_are_those_that_the_configuration_names():
    assert sorted(LOSSES) == sorted(LOSS_NAMES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "mes"}, "did you mean mse"),
        ({"mixing": "episodes"}, "did you mean episode"),
        ({"noise_model": "darts"}, "did you mean dart"),
        ({"critic": "teachers"}, "did you mean teacher"),
        ({"start": "newst"}, "did you mean newest"),
    ],
)
def test_unknown_choices_name_the_close_ones(options, message):
    with pytest.raises(UnknownNameError, match=message):
        MergeConfig(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"beta": "exponental:0.5"},
        {"beta": "constant:1.5"},
        {"beta": "linear:1,-1"},
        {"noise": -1.0},
        {"rounds": 0},
        {"gamma": 1.0},
        {"aggregation": "last:0"},
        {"aggregation": "latest"},
        {"adaptive": 1.0},
        {"support": float("inf")},
        {"min_teacher_success": 1.1},
        {"max_std": 0.001},
        {"jsd_beta": float("nan")},
    ],
)
def test_out_of_range_is_refused_by_name(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        MergeConfig(**options)


def test_two_experts_for_one_skill_are_refused(teachers, tmp_path):
    path = merge_experts(teachers, tmp_path / "student", replace(SMALL, rounds=1)).policy_path
    loaded = load_policy(path)
    with pytest.raises(ConfigError, match="both label biped/flat"):
        teachers_from([("a", loaded), ("b", loaded)])
    with pytest.raises(ConfigError, match="no expert"):
        teachers_from([])


def test_a_student_may_have_an_encoder(tmp_path):
    """Its branch is trained, and the student can be loaded."""
    shape = Architecture((16,), (16,), encoders=(Encoder("terrain", (2,), (8,), (4,), 6),))
    config = MergeConfig(
        rounds=1,
        envs=2,
        updates=4,
        minibatch=32,
        validation_episodes=2,
        min_teacher_success=0.0,
        threads=1,
        architecture=shape,
    )
    teachers = [make_teacher("biped/flat", 1), make_teacher("biped/gaps", 2)]
    student = load_policy(merge_experts(teachers, tmp_path, config).policy_path).policy
    fresh = Policy(student.groups, student.actions, shape, integer_seed(0, "student", "biped/flat", "biped/gaps"))
    moved = student.actor[0].encoders[0].dense.weight - fresh.actor[0].encoders[0].dense.weight
    assert 0 < moved.abs().max() < 0.1


def test_random_physics_and_sensors_change_what_the_student_sees(teachers, tmp_path):
    what = Randomization(latency=(1, 2), noise=(("proprio", 0.1),))
    config = replace(SMALL, rounds=1)
    plain, varied = (
        load_policy(merge_experts(teachers, tmp_path / name, config).policy_path)
        for name, config in (("plain", config), ("varied", replace(config, randomization=what)))
    )
    assert "randomization" not in plain.manifest.config
    assert varied.manifest.config["randomization"]["latency"] == [1, 2]
    spread = [loaded.policy.normalizer.state_dict() for loaded in (plain, varied)]
    assert any(not torch.equal(spread[0][name], spread[1][name]) for name in spread[0])
