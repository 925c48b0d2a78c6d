"""Rounds of a merge with scripted parts: shares, noise, seeds, the best student, the files; and conflicts by hand."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from small_policies import small_policy
from teacher_samples import TINY, make_teacher

from policykd.envs.batched_env import EnvConfig
from policykd.envs.foreign.gym_batch import GymBatch
from policykd.envs.foreign.skill import gym_skill
from policykd.envs.randomization import Randomization
from policykd.errors import ConfigError
from policykd.merge import distiller
from policykd.merge.collect import ActionNoise
from policykd.merge.data.pool import StatePool
from policykd.merge.data.rollout import LabeledRollout
from policykd.merge.distiller import _Merge, merge_experts
from policykd.merge.retention import Score
from policykd.parallel import Processes
from policykd.progress import Silent
from policykd.schedules import parse
from policykd.seeding import integer_seed
from told import Told

CPU = torch.device("cpu")
IDS = ["biped/flat", "biped/gaps"]


class Folder(SimpleNamespace):
    """Keeps what is written."""

    def __init__(self, path=None):
        super().__init__(path=path, rows=[], saved=[], finished=[], result=None)

    def append(self, row):
        self.rows.append(row)

    def save_checkpoint(self, state):
        self.saved.append(state)

    def load_checkpoint(self):
        return None

    def finish(self, result):
        self.finished.append(result)


def merge_of(config=TINY, folder=None):
    """A merge of two skills without simulations."""
    merge = _Merge.__new__(_Merge)
    merge._device, merge._config, merge._folder, merge._progress = CPU, config, folder or Folder(), Told()
    merge._teachers = [SimpleNamespace(skill=SimpleNamespace(id=i, robot="biped", absent_groups=())) for i in IDS]
    merge._init, merge._ids, merge._name = None, IDS, "merge x"
    merge._student = small_policy()
    merge._fitting = SimpleNamespace(state_dict=lambda: {"optimizer": 7})
    merge._pool, merge._beta = StatePool(2), parse(config.beta)
    merge._round, merge._streak, merge._seconds = 0, 0, 0.0
    merge._shares, merge._gaps, merge._best = [0.5, 0.5], [0.0, 0.0], None
    merge._reached = {"0.95": None, "0.98": None}
    merge._envs, merge._joint, merge._old = {}, None, None
    merge._group, merge._mine = Processes(), range(2)
    return merge


def score(retention, shortfall=(0.0, 0.0)):
    kept = dict(zip(IDS, retention, strict=True))
    return Score(dict.fromkeys(IDS, 0.5), dict.fromkeys(IDS, 0.25), kept, dict(zip(IDS, shortfall, strict=True)))


@pytest.mark.parametrize(
    ("beta", "start", "round_", "share"),
    [
        ("constant:0.3", "random", 0, 1.0), ("constant:0.3", "newest", 0, 0.3), ("constant:0.3", "random", 1, 0.3),
        ("exponential:0.5", "random", 2, 0.25), ("linear:1,0", "random", 2, 0.5),
        ("plaid_paper:300", "random", 3, float(parse("plaid_paper:300")(30))),
    ],
)  # fmt: skip
def test_the_experts_share_of_a_round(beta, start, round_, share):
    merge = merge_of(replace(TINY, beta=beta, start=start, rounds=4, updates=10))
    merge._round = round_
    assert merge._expert_share() == pytest.approx(share)


def test_generators_are_seeded_by_purpose_and_round():
    merge = merge_of(replace(TINY, seed=5))
    merge._round = 3
    assert merge._generator("minibatches").initial_seed() == integer_seed(5, "minibatches", 3)


def test_simulations_are_made_once_for_every_number_and_dropped_for_another(monkeypatch):
    made = []

    def make(*args, **options):
        made.append((args, options))
        return SimpleNamespace(num_envs=args[1])

    monkeypatch.setattr(distiller, "make_env", make)
    merge = merge_of(replace(TINY, seed=5, randomization=Randomization(latency=(1, 2))))
    first = merge._env(0, 4)
    other = merge._env(1, 4)
    assert merge._env(0, 4) is first
    how = {"seed": integer_seed(5, "collection"), "threads": 1, "device": "cpu",
           "config": EnvConfig(randomization=Randomization(latency=(1, 2)))}  # fmt: skip
    assert made == [(([merge._teachers[i].skill], 4), how) for i in (0, 1)]
    second = merge._env(0, 5)
    assert second is not first
    assert merge._envs == {0: second, 1: other}
    assert merge._env(1, 4) is other


def test_copies_of_a_gymnasium_environment_are_kept_for_another_number():
    merge = merge_of(replace(TINY, seed=5))
    merge._envs[0] = batch = GymBatch([gym_skill("gym:CartPole-v1")], 3)
    assert merge._env(0, 2) is batch
    assert (batch.num_envs, len(batch._made)) == (2, 3)


def test_a_collection_is_seeded_by_skill_and_round(monkeypatch):
    merge, seeds, seen = merge_of(replace(TINY, seed=5, mixing="step")), [], []
    envs = [SimpleNamespace(seed=seeds.append) for _ in IDS]
    merge._env = lambda i, count: envs[i]
    merge._labeler, merge._round = object(), 2
    merge._noise = lambda i: ActionNoise(0.1 * i)
    monkeypatch.setattr(distiller, "collect", lambda *args, **options: seen.append((args, options)) or ["a", "b"])
    assert merge._collect(0.25, 7, [3, 4]) == ["a", "b"]
    assert seeds == [integer_seed(5, "collection", i, 7) for i in IDS]
    ((collections, student), options) = seen[0]
    assert student is merge._student
    assert options == {"beta": 0.25, "mixing": "step", "labeler": merge._labeler}
    assert [c.env for c in collections] == envs
    assert [c.noise.std for c in collections] == [0.0, 0.1]
    assert [c.generator.initial_seed() for c in collections] == [integer_seed(5, f"mixture {i}", 2) for i in IDS]


@pytest.mark.parametrize(
    ("model", "round_", "expected"),
    [("none", 3, 0.0), ("gaussian", 0, 0.2), ("gaussian", 3, 0.2), ("dart", 0, 0.2), ("dart", 3, "dart")],
)
def test_noise_of_a_round(monkeypatch, model, round_, expected):
    merge, asked = merge_of(replace(TINY, noise_model=model, noise=0.2)), []
    merge._round = round_
    data = SimpleNamespace(to=lambda device: "last round")
    merge._data = SimpleNamespace(find=lambda *given: asked.append(given) or data)
    monkeypatch.setattr(distiller, "dart_noise", lambda *given: ("dart", *given))
    found = merge._noise(1)
    if expected == "dart":
        assert found == ("dart", merge._student, "last round", 0.2)
        assert asked == [(2, "biped/gaps")]
    else:
        assert (found, asked) == (ActionNoise(expected), [])


@pytest.mark.parametrize(
    ("minibatch", "shares", "counts"), [(9, [0.5, 0.5], [4, 4]), (8, [0.75, 0.25], [6, 2]), (1, [0.5, 0.5], [1, 1])]
)
def test_a_minibatch_is_split_over_the_skills(minibatch, shares, counts):
    merge, seen = merge_of(replace(TINY, minibatch=minibatch, seed=5)), []
    merge._shares, merge._round = shares, 3
    merge._fitting.fit = lambda *given: seen.append(given) or 0.5
    assert merge._fit() == 0.5
    ((pool, given, round_, generator),) = seen
    assert (pool, given, round_) == (merge._pool, counts, 3)
    assert generator.initial_seed() == integer_seed(5, "minibatches", 3)


def rollout(count, seed=0):
    g = torch.Generator().manual_seed(seed)
    no, zero = torch.zeros(count, 1, dtype=torch.bool), torch.zeros(count)
    return LabeledRollout(
        torch.randn(count, 3, generator=g), torch.zeros(count, 2), zero[:, None], no, no, no,
        torch.zeros(0, dtype=torch.long), torch.zeros(0, 3), zero, zero,
    )  # fmt: skip


def test_collected_states_are_stored_pooled_and_counted_by_the_normalizer_in_the_first_round_only():
    merge, stored, asked = merge_of(replace(TINY, envs=3)), [], []
    merge._fresh = merge._student.normalizer.fresh.clone()
    rollouts = [rollout(4, 1), rollout(6, 2)]
    merge._collect = lambda *given: asked.append(given) or rollouts
    merge._data = SimpleNamespace(store=lambda *given: stored.append(given), commit=lambda: stored.append("commit"))
    merge._shares = [0.7, 0.3]
    merge._collect_round()
    assert asked == [(1.0, 0, [4, 2])]
    assert stored == [(0, "biped/flat", rollouts[0], 1.0), (0, "biped/gaps", rollouts[1], 1.0), "commit"]
    assert merge._pool.states == 10
    everything = torch.cat([r.observations for r in rollouts])
    torch.testing.assert_close(merge._student.normalizer.mean, everything.mean(0))
    merge._round = 1
    merge._collect_round()
    assert merge._pool.states == 20
    torch.testing.assert_close(merge._student.normalizer.mean, everything.mean(0))


def test_a_validation_decides_on_streak_marks_best_student_and_shares():
    merge = merge_of(replace(TINY, target_retention=0.96, adaptive=0.5))
    scores = [score((0.95, 0.99)), score((0.97, 0.99)), score((0.98, 0.99)), score((0.9, 0.9)), score((0.97, 0.98))]
    given, streaks, bests = iter(scores), [], []
    validation = SimpleNamespace(measure=lambda student: next(given))
    for number in range(5):
        merge._pool.add(0, rollout(10))
        merge._student.log_std.data.fill_(float(number))
        assert merge._measure(validation) is scores[number]
        streaks.append(merge._streak)
        bests.append(float(merge._best["weights"]["log_std"][0]))
    assert streaks == [0, 1, 2, 0, 1]
    assert bests == [0.0, 1.0, 2.0, 2.0, 2.0]
    assert (merge._best["score"], merge._best["retention"]) == (0.98, scores[2].retention)
    assert merge._reached == {"0.95": 10, "0.98": 30}
    assert merge._shares == pytest.approx([0.25 + 0.5 * 0.03 / 0.05, 0.25 + 0.5 * 0.02 / 0.05])


def test_gaps_are_averaged_over_the_validations_after_the_first():
    merge = merge_of(replace(TINY, adaptive=0.5, gap_memory=0.25))
    given = iter([score((0.9, 0.8)), score((0.7, 1.0))])
    validation = SimpleNamespace(measure=lambda student: next(given))
    merge._measure(validation)
    assert merge._gaps == pytest.approx([0.1, 0.2])
    merge._round = 1
    merge._measure(validation)
    assert merge._gaps == pytest.approx([0.25 * 0.1 + 0.75 * 0.3, 0.25 * 0.2])
    assert merge._shares == pytest.approx([0.25 + 0.5 * 0.25 / 0.3, 0.25 + 0.5 * 0.05 / 0.3])


def test_rounds_are_logged_saved_and_reported_until_two_good_ones():
    folder = Folder()
    merge = merge_of(replace(TINY, rounds=9), folder)
    merge._collect_round = lambda: merge._pool.add(0, rollout(10))
    merge._fit = lambda: 0.125
    streaks, finished = iter([0, 1, 2]), []

    def measure(validation):
        merge._streak = next(streaks)
        return score((0.9, 0.8))

    merge._measure, merge._finish = measure, lambda: finished.append(merge._round)
    merge.go(None)
    assert finished == [3]
    assert [(row["round"], row["states"], row["loss"]) for row in folder.rows] == [
        (1, 10, 0.125), (2, 20, 0.125), (3, 30, 0.125),
    ]  # fmt: skip
    assert folder.rows[0]["retention"] == {"biped/flat": 0.9, "biped/gaps": 0.8}
    assert folder.rows[0]["success"] == dict.fromkeys(IDS, 0.5)
    assert folder.rows[0]["masked"] == dict.fromkeys(IDS, 0.0)
    seconds = [row["seconds"] for row in folder.rows]
    assert 0 < seconds[0] < seconds[1] < seconds[2] < 60
    assert merge._progress.all == [
        ("merge x", 9, "rounds"),
        *(("merge x", n, {"loss": 0.125, "retention": 0.8}) for n in (1, 2, 3)),
    ]
    assert [state["round"] for state in folder.saved] == [1, 2, 3]
    last = folder.saved[-1]
    assert (last["streak"], last["seconds"], last["shares"], last["optimizer"]) == (2, seconds[-1], [0.5, 0.5], 7)
    assert last["gaps"] == [0.0, 0.0]
    assert last["reached"] == {"0.95": None, "0.98": None}
    assert set(last["student"]) == set(merge._student.state_dict())


def test_a_merge_ends_with_its_budget_of_rounds():
    merge, rounds = merge_of(replace(TINY, rounds=2)), []
    merge._collect_round, merge._fit = lambda: None, lambda: 0.0
    merge._measure = lambda validation: score((0.9, 0.8))
    merge._finish = lambda: rounds.append(merge._round)
    merge.go(None)
    assert rounds == [2]


@pytest.mark.parametrize("critic", ["td", "teacher", "none"])
def test_the_critic_is_fitted_to_what_the_configuration_names(monkeypatch, critic):
    merge, seen = merge_of(replace(TINY, critic=critic, rounds=5, envs=3, seed=6)), []
    merge._round = 4
    merge._collect = lambda *given: given
    for name in ("fit_critic", "fit_critic_to_teachers"):
        monkeypatch.setattr(distiller, name, lambda *given, name=name: seen.append((name, given)))
    merge._fit_critic()
    config, seed = merge._config, integer_seed(6, "critic", 4)
    assert all(given[-1] == Processes() for _, given in seen)
    seen = [(name, given[:-2], given[-2].initial_seed()) for name, given in seen]
    assert (
        seen
        == {
            "td": [("fit_critic", (merge._student, (0.0, 5, [3, 3]), config), seed)],
            "teacher": [("fit_critic_to_teachers", (merge._student, merge._pool, 2, config), seed)],
            "none": [],
        }[critic]
    )


@pytest.mark.parametrize(("streak", "reached"), [(2, True), (1, False)])
def test_the_best_student_is_saved_with_its_record(monkeypatch, tmp_path, streak, reached):
    saved, folder = [], Folder(tmp_path)
    monkeypatch.setattr(distiller, "save_policy", lambda path, policy, **record: saved.append((path, policy, record)))
    monkeypatch.setattr(distiller, "records_of", lambda skills: [s.id for s in skills])
    monkeypatch.setattr(distiller, "parents", lambda teachers, init: ["parents", init])
    merge = merge_of(replace(TINY, seed=6), folder)
    merge._fit_critic = lambda: None
    merge._round, merge._streak, merge._seconds = 7, streak, 100.0
    merge._pool.add(0, rollout(10))
    merge._student.log_std.data.fill_(0.25)
    merge._measure(SimpleNamespace(measure=lambda student: score((0.9, 0.8))))
    merge._streak = streak
    merge._student.log_std.data.fill_(0.75)
    merge._finish()
    ((path, policy, record),) = saved
    assert (path, policy.log_std.tolist()) == (tmp_path / "policy", [0.25, 0.25])
    outcome = record.pop("metrics")
    assert outcome == {
        "states": 10, "seconds": merge._seconds, "retention": {"biped/flat": 0.9, "biped/gaps": 0.8},
        "states_to_retention": {"0.95": None, "0.98": None}, "masked": dict.fromkeys(IDS, 0.0),
    }  # fmt: skip
    assert 100.0 <= merge._seconds < 110.0
    assert record.pop("config")["seed"] == 6
    assert record == {
        "robot": "biped", "skills": IDS, "skill_records": IDS, "operation": "merge", "parents": ["parents", None],
        "seed": 6,
    }  # fmt: skip
    assert folder.finished == [{**outcome, "rounds": 7, "reached_target": reached}]
    assert merge._progress.all == [("merge x", "retention at least 0.800 after 7 rounds, 100 s")]


def test_a_merge_begins_with_equal_shares_the_teachers_noise_and_no_progress(monkeypatch, tmp_path, teachers):
    config = replace(TINY, aggregation="last:2", support=4.0, batched_teachers=True, seed=8)
    merge = _Merge(teachers, Folder(tmp_path), config, None, Silent())
    assert merge._name == "merge biped/flat biped/gaps"
    assert (merge._round, merge._streak, merge._seconds, merge._best) == (0, 0, 0.0, None)
    assert merge._shares == [0.5, 0.5]
    assert merge._reached == {"0.95": None, "0.98": None}
    assert (merge._pool._kept, merge._pool._support) == (2, 4.0)
    assert [stack.places for stack in merge._labeler._stacks] == [(0, 1)]
    assert bool(merge._fresh)
    assert merge._data.folder == tmp_path / "data"
    expected = torch.stack([t.policy.log_std for t in teachers])
    torch.testing.assert_close(merge._fitting._log_std, expected)
    torch.testing.assert_close(merge._student.log_std.detach(), expected.mean(0).detach())


def test_poor_teachers_are_refused_once_and_a_finished_merge_is_read(monkeypatch, tmp_path, teachers):
    asked, ran = [], []
    monkeypatch.setattr(distiller, "StudentValidation", lambda *given, group: asked.append(given) or "validation")
    done = {"rounds": 1, "states": 2, "seconds": 3.0, "retention": {}, "reached_target": True}

    def go(self, validation):
        ran.append(validation)
        self._folder.finish(done)

    monkeypatch.setattr(_Merge, "go", go)
    first = merge_experts(teachers, tmp_path, TINY)
    assert (len(asked), ran) == (1, ["validation"])
    assert (first.policy_path, first.rounds, first.states_to_retention, first.masked) == (
        tmp_path / "policy",
        1,
        {},
        {},
    )
    assert merge_experts(teachers, tmp_path, TINY, resume=True) == first
    assert (len(asked), ran) == (1, ["validation"])
    (tmp_path / "result.json").unlink()
    assert merge_experts(teachers, tmp_path, TINY, resume=True) == first
    assert (len(asked), ran) == (2, ["validation"] * 2)
    for changed in ({"seed": 1}, {"noise": 0.3}):
        with pytest.raises(ConfigError, match=next(iter(changed))):
            merge_experts(teachers, tmp_path, replace(TINY, **changed), resume=True)
    other = [make_teacher("biped/flat", 9), teachers[1]]
    with pytest.raises(ConfigError, match="teachers"):
        merge_experts(other, tmp_path, TINY, resume=True)


# Conflicts
