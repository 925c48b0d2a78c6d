"""Quick merges: joint collection against the ordinary one, scores and outlook by hand, rounds, resume, stop rule."""

import json
import math
from dataclasses import replace

import pytest
import torch
from small_policies import small_policy
from teacher_samples import TINY, make_teacher

from policykd.agents.architecture import Architecture, Memory
from policykd.agents.files.policy_file import load_policy
from policykd.agents.networks import group_columns
from policykd.envs.randomization import OFF
from policykd.errors import ConfigError, UnknownNameError
from policykd.merge import MergeConfig, merge_experts
from policykd.merge.data.folder import LabeledData
from policykd.merge.fitting import Fitting
from policykd.merge.presets import MERGE_PRESETS, merge_preset, on_preset
from policykd.merge.quick import rounds as quick_rounds
from policykd.merge.quick.collecting import FirstEpisodes, collect_jointly, make_joint
from policykd.merge.quick.outlook import seconds_left, states_until
from policykd.merge.quick.rounds import QuickMerge
from policykd.merge.quick.scores import EarlyTest
from policykd.merge.retention import Score
from policykd.merge.student import first_student
from told import Told

QUICK = replace(TINY, stop="confirmed", beta="constant:0", rounds=3, tracks=4, passes=2.0, minibatch=16)


def collected(teachers, student, *, counts=(2, 3), noise=0.0, experts_act, steps=None):
    env = make_joint(teachers, counts, tracks=4, seed=5, threads=1, randomization=OFF)
    g = torch.Generator().manual_seed(1)
    return collect_jointly(teachers, env, counts, student, experts_act=experts_act, noise=noise, generator=g)


@pytest.mark.parametrize("experts_act", [True, False])
def test_a_joint_rollout_holds_consistent_steps_labels_and_first_episodes(teachers, experts_act):
    """The same environment, driven by hand: states, rewards, ends and the first episode of every simulation."""
    student, counts = first_student(teachers, TINY, None), (2, 3)
    found = collected(teachers, student, experts_act=experts_act)
    env = make_joint(teachers, counts, tracks=4, seed=5, threads=1, randomization=OFF)
    flat, steps = torch.cat(list(env.reset().values()), dim=-1), env.skill.episode_steps
    total, success, running = torch.zeros(5, dtype=torch.float64), torch.zeros(5, dtype=torch.bool), torch.ones(5) > 0
    parts = (slice(0, 2), slice(2, 5))
    with torch.no_grad():
        for t in range(steps):
            labels = torch.cat([k.policy(flat[p]).clamp(-1, 1) for k, p in zip(teachers, parts, strict=True)])
            step = env.step(labels if experts_act else student(flat))
            for one, part, count in zip(found, parts, counts, strict=True):
                rows = slice(t * count, (t + 1) * count)
                assert torch.equal(one.rollout.observations[rows], flat[part])
                torch.testing.assert_close(one.rollout.labels[rows], labels[part], rtol=1e-5, atol=1e-6)
                assert torch.equal(one.rollout.rewards[t], step.reward[part])
                assert torch.equal(one.rollout.terminated[t], step.terminated[part])
                assert torch.equal(one.rollout.truncated[t], step.truncated[part])
            total += torch.where(running, step.reward.double(), 0.0)
            for i, done in zip(step.episodes.ids.tolist(), step.episodes.success.tolist(), strict=True):
                success[i] = done if running[i] else success[i]
            running &= ~(step.terminated | step.truncated)
            flat = step.flat
    for one, part, teacher in zip(found, parts, teachers, strict=True):
        assert bool(one.rollout.student_acted.all()) is not experts_act
        torch.testing.assert_close(one.episodes.reward_per_step, total[part] / steps, rtol=1e-5, atol=1e-7)
        assert torch.equal(one.episodes.success, success[part])
        values, distances = teacher.assess(one.rollout.observations, group_columns(teacher.policy.groups))
        torch.testing.assert_close(one.rollout.teacher_values, values)
        torch.testing.assert_close(one.rollout.distances, distances)


def test_states_after_the_last_row_of_an_episode_are_kept_for_the_critic(teachers):
    """All episodes of 24 steps are cut at the end; their rows are the last ones, whatever ended before by a fall."""
    for one in collected(teachers, first_student(teachers, TINY, None), experts_act=True):
        rollout, (steps, n) = one.rollout, one.rollout.rewards.shape
        cut = rollout.truncated.clone()
        cut[-1] |= ~rollout.terminated[-1]
        expected = cut.flatten().nonzero().squeeze(1)
        order = rollout.final_rows.argsort()
        assert torch.equal(rollout.final_rows[order], expected)
        assert rollout.final_observations.shape == (len(expected), rollout.observations.shape[1])
        assert (rollout.final_observations - rollout.observations[rollout.final_rows]).abs().max() > 0
        assert steps * n == len(rollout.labels)


def test_noise_moves_executed_actions_and_not_labels(teachers):
    student = first_student(teachers, TINY, None)
    still, moved = (collected(teachers, student, noise=noise, experts_act=True)[0].rollout for noise in (0.0, 0.5))
    assert torch.equal(still.observations[:2], moved.observations[:2])
    assert not torch.equal(still.observations[2:4], moved.observations[2:4])
    torch.testing.assert_close(still.labels[:2], moved.labels[:2])


def episodes(reward, success):
    return FirstEpisodes(torch.tensor(reward, dtype=torch.float64), torch.tensor(success))


def test_the_early_test_averages_the_students_episodes_and_divides_by_the_experts(teachers):
    early, ids = EarlyTest(teachers, 0.25), [t.skill.id for t in teachers]
    early.set_reference([episodes([0.8, 0.6], [True, True]), episodes([0.5, 0.1], [True, False])])
    assert early.score() is None
    early.add([episodes([0.7, 0.7], [True, True]), episodes([0.2, 0.2], [False, False])])
    early.add([episodes([0.5, 0.3], [True, False]), episodes([0.6, 0.6], [True, True])])
    score = early.score()
    reward = {ids[0]: 0.25 * 0.7 + 0.75 * 0.4, ids[1]: 0.25 * 0.2 + 0.75 * 0.6}
    assert score.reward_per_step == pytest.approx(reward)
    assert score.success == pytest.approx({ids[0]: 0.25 + 0.75 * 0.5, ids[1]: 0.75})
    assert score.retention == pytest.approx({ids[0]: reward[ids[0]] / 0.7, ids[1]: reward[ids[1]] / 0.5})
    assert score.shortfall == pytest.approx({ids[0]: 1.0 - 0.625, ids[1]: 0.5 - 0.75})
    fallen = EarlyTest(teachers, 0.0)
    fallen.set_reference([episodes([0.2, 0.4], [False, False]), episodes([0.5], [True])])
    fallen.add([episodes([0.15], [False]), episodes([0.25], [False])])
    assert fallen.score().retention == pytest.approx(dict.fromkeys(ids, 0.5))
    again = EarlyTest(teachers, 0.25)
    again.load_state_dict(json.loads(json.dumps(early.state_dict())))
    assert again.score() == score
    assert (early.lowest_success, fallen.lowest_success) == (0.5, 0.0)


def test_the_outlook_follows_a_power_law():
    states, kept = [1000, 2000, 4000], [1 - 0.4, 1 - 0.2, 1 - 0.1]  # the gap halves as states double
    assert states_until(0.95, states, kept) == pytest.approx(8000.0)
    assert states_until(0.98, states, kept) == pytest.approx(20_000.0)
    assert states_until(0.5, states, kept) == 4000.0
    assert states_until(0.9999, states, kept) is None  # 4 million: beyond a hundred times 4000
    assert states_until(0.95, states[:1], kept[:1]) is None
    assert states_until(0.95, states, [0.6, 0.6, 0.6]) is None
    assert states_until(0.9995, [10, 100], [0.9, 1.2]) == pytest.approx(10 * math.sqrt(0.1 / 0.0005))  # 1.2: gap 0.001
    assert seconds_left(8000.0, 4000, 5000.0, 12.0) == pytest.approx(3.0)
    assert seconds_left(None, 4000, 12_000.0, 12.0) == pytest.approx(24.0)
    assert seconds_left(3000.0, 4000, 12_000.0, 12.0) == 0.0


def test_gradient_steps_follow_the_new_states():
    config = replace(QUICK, passes=3.0, minibatch=64, updates=7)
    with pytest.raises(ConfigError, match=r"passes is 3; it needs merge\.stop=confirmed"):
        replace(TINY, passes=3.0)
    assert [config.updates_for(n) for n in (1, 640, 1000)] == [1, 30, 47]
    assert replace(config, passes=0.0).updates_for(640) == 7
    fitting = Fitting(small_policy(), torch.zeros(2, 2), config)
    shares = []
    fitting._set_share = lambda done: shares.append(done) or setattr(fitting, "_newest", 0.5)

    class Drawn:
        def sample(self, counts, generator):
            from policykd.merge.data.pool import Batch

            return Batch(torch.ones(2, 3), torch.zeros(2, 2), torch.tensor([0, 1]))

    for round_, updates in ((0, 2), (1, 3)):
        fitting.fit(Drawn(), (1, 1), round_, torch.Generator(), updates=updates)
    assert shares == [0, 1, 2, 3, 4]
    assert fitting.state_dict()["done"] == 5
    fitting.fit(Drawn(), (1, 1), 2, torch.Generator())
    assert shares[5:] == list(range(14, 21))  # the steps of two rounds of seven are before these


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": "constant:0.5"}, r"merge\.beta is constant:0\.5; with merge\.stop=confirmed it must be constant:0"),
        ({"device": "cuda"}, r"merge\.device is cuda"),
        ({"noise_model": "dart"}, r"merge\.noise_model is dart; .* gaussian or none"),
        ({"critic": "td"}, r"merge\.critic is td; .* teacher or none"),
        ({"validation_every": 2}, r"merge\.validation_every is 2"),
        ({"protection": "ewc"}, r"merge\.protection is ewc"),
        ({"early_margin": 1.5}, r"merge\.early_margin is 1\.5"),
        ({"passes": -1.0}, r"merge\.passes is -1"),
        ({"tracks": 0}, r"merge\.tracks is 0"),
    ],
)
def test_settings_that_do_not_fit_are_named(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(QUICK, **change)


def test_presets_take_what_differs_from_the_defaults():
    assert on_preset("standard", MergeConfig(seed=3)) == MergeConfig(seed=3)
    found = on_preset("fast", MergeConfig(seed=3, rounds=9))
    assert (found.seed, found.rounds, found.stop) == (3, 9, "confirmed")
    assert found == replace(MERGE_PRESETS["fast"], seed=3, rounds=9)
    assert on_preset("fast", MergeConfig(start="newest")).start == "newest"
    for given in (
        MergeConfig(loss="nll"),
        MergeConfig(architecture=Architecture(hidden=(8,), memory=Memory("gru", 4))),
    ):
        assert on_preset("fast", given) == replace(
            MERGE_PRESETS["fast"], optimizer="adam", passes=24.0, loss=given.loss, architecture=given.architecture
        )
    assert (merge_preset("compress").protection, merge_preset("compress").loss) == ("ewc", "forward_kl")
    with pytest.raises(UnknownNameError, match="merge preset"):
        merge_preset("fats")


def scripted(monkeypatch, values):
    """Replace the tests on new tracks; returns the numbers of their tracks."""
    attempts, scores = [], iter(values)

    class Scripted:
        def __init__(self, teachers, config, *, attempt):
            attempts.append(attempt)
            self._ids = [t.skill.id for t in teachers]

        def measure(self, student):
            kept = dict(zip(self._ids, next(scores), strict=True))
            zero = dict.fromkeys(self._ids, 0.0)
            return Score(dict.fromkeys(self._ids, 1.0), kept, kept, zero)

    monkeypatch.setattr(quick_rounds, "StudentValidation", Scripted)
    return attempts


def early_of(monkeypatch, values):
    """Replace the early test's scores, one per round after the first."""
    scores = iter(values)

    def score(self):
        if not self._student:
            return None
        kept = dict(zip(self._ids, next(scores), strict=True))
        return Score(kept, kept, kept, dict.fromkeys(self._ids, 0.0))

    monkeypatch.setattr(EarlyTest, "score", score)


def test_a_merge_ends_with_the_test_on_new_tracks_that_it_passes(teachers, tmp_path, monkeypatch):
    """Early tests .91, .96, .97, .96 with a target of .98 less .05: the last three lead to tests, the third passes."""
    early_of(monkeypatch, [(0.91, 1.0), (0.96, 0.99), (0.97, 0.93), (0.96, 0.96)])
    attempts = scripted(monkeypatch, [(0.97, 0.99), (0.975, 1.0), (0.985, 0.99)])
    progress = Told()
    config = replace(QUICK, rounds=9, target_retention=0.98, adaptive=0.5, gap_memory=0.5, critic="teacher")
    result = merge_experts(teachers, tmp_path / "a", config, progress=progress)
    assert attempts == [0, 1, 2]
    assert (result.rounds, result.reached_target) == (5, True)
    ids = [t.skill.id for t in teachers]
    assert result.retention == dict(zip(ids, (0.985, 0.99), strict=True))
    per_round = result.states // 5
    assert per_round == 2 * 2 * 24
    assert result.states_to_retention == {"0.95": 2 * per_round, "0.98": 5 * per_round}
    assert [row["states"] for row in result.history] == [per_round * (i + 1) for i in range(5)]
    assert [row.get("retention", {}).get(ids[0]) for row in result.history] == [
        None, None, 0.97, 0.975, 0.985,
    ]  # fmt: skip
    assert [row.get("early", {}).get("retention", {}).get(ids[0]) for row in result.history] == [
        None, 0.91, 0.96, 0.97, 0.96,
    ]  # fmt: skip
    for row in result.history:
        assert set(row["phase_seconds"]) == set(result.phase_seconds) == {"collection", "fitting", "validation"}
        assert sum(row["simulations"].values()) == 4
    total = {
        phase: sum(row["phase_seconds"][phase] for row in result.history) for phase in ("collection", "validation")
    }
    assert total == pytest.approx({phase: result.phase_seconds[phase] for phase in total})
    assert sum(result.phase_seconds.values()) == pytest.approx(result.seconds)
    assert 0 < result.history[0]["seconds"] < result.history[4]["seconds"] <= result.seconds
    figures = [entry[2] for entry in progress.all if len(entry) == 3 and isinstance(entry[2], dict)]
    assert figures[2][f"retention {ids[0]}"] == 0.97
    assert figures[2]["states to 0.95"] == 2 * per_round
    curve = [1, 2, 3, 3, 4, 4, 5], [0.91, 0.96, 0.97, 0.93, 0.975, 0.96, 0.985]  # rounds fitted, lowest retention
    for done, scores in ((1, 0), (2, 1), (3, 3), (4, 5), (5, 7)):
        states, spent = per_round * done, result.history[done - 1]["seconds"]
        expected = states_until(0.98, [per_round * n for n in curve[0][:scores]], curve[1][:scores])
        assert figures[done - 1]["seconds left"] == pytest.approx(
            seconds_left(expected, states, per_round * 9, spent), rel=1e-6
        )
        assert figures[done - 1].get("about states to 0.98") == (None if done == 5 else pytest.approx(expected))
    assert "retention" not in figures[0]
    assert [one["retention"] for one in figures[1:]] == [0.91, 0.97, 0.975, 0.985]  # the test's, else the early test's
    assert figures[4]["states to 0.98"] == 5 * per_round
    loaded = load_policy(result.policy_path).manifest
    assert (loaded.operation, loaded.skills, loaded.config["stop"]) == ("merge", tuple(ids), "confirmed")


def test_without_a_passed_test_the_last_student_is_measured_on_new_tracks(teachers, tmp_path, monkeypatch):
    early_of(monkeypatch, [(0.1, 1.0), (0.1, 1.0)])
    attempts = scripted(monkeypatch, [(0.9, 0.8)])
    result = merge_experts(teachers, tmp_path / "a", replace(QUICK, target_retention=0.98))
    assert (attempts, result.rounds, result.reached_target) == ([0], 3, False)
    assert min(result.retention.values()) == 0.8
    data, normalizer = LabeledData.open(tmp_path / "a"), load_policy(result.policy_path).policy.normalizer
    assert {(shard.round, shard.beta) for shard in data.manifest.shards} == {(0, 1.0), (1, 0.0), (2, 0.0)}
    first = torch.cat([data.load(shard).observations for shard in data.manifest.shards if shard.round == 0]).double()
    torch.testing.assert_close(normalizer.mean.double(), first.mean(dim=0), rtol=1e-4, atol=1e-5)  # frozen afterwards
    torch.testing.assert_close(normalizer.var.double(), first.var(dim=0, unbiased=False), rtol=1e-3, atol=1e-5)
    assert float(normalizer.count.max()) == len(first) == result.states // 3


def test_the_skill_that_is_behind_gets_more_simulations(teachers, tmp_path, monkeypatch):
    early_of(monkeypatch, [(0.5, 1.0), (0.5, 1.0)])
    scripted(monkeypatch, [(0.9, 0.8)])
    config = replace(QUICK, envs=5, adaptive=0.8, target_retention=0.98)
    rows = merge_experts(teachers, tmp_path / "a", config).history
    assert [list(row["simulations"].values()) for row in rows] == [[5, 5], [5, 5], [9, 1]]


class Killed(Exception):
    pass


@pytest.mark.parametrize("moment", ["_fit", "_save"])
def test_a_killed_quick_merge_ends_in_the_same_weights(teachers, tmp_path, monkeypatch, moment):
    config = replace(QUICK, adaptive=0.5, gap_memory=0.5, critic="teacher")
    whole = merge_experts(teachers, tmp_path / "whole", config)
    original = getattr(QuickMerge, moment)

    def dying(self, *args):
        if self._round == 2:
            raise Killed
        return original(self, *args)

    monkeypatch.setattr(QuickMerge, moment, dying)
    with pytest.raises(Killed):
        merge_experts(teachers, tmp_path / "killed", config)
    monkeypatch.undo()
    resumed = merge_experts(teachers, tmp_path / "killed", config, resume=True)
    first, second = (load_policy(r.policy_path).manifest.weights_sha256 for r in (whole, resumed))
    assert first == second
    assert (resumed.retention, resumed.states_to_retention) == (whole.retention, whole.states_to_retention)
    assert LabeledData.open(tmp_path / "whole").manifest.shards == LabeledData.open(tmp_path / "killed").manifest.shards
    assert merge_experts(teachers, tmp_path / "killed", config, resume=True) == resumed


@pytest.mark.parametrize(("success", "validated"), [(0.4, [None]), (0.5, [])])
def test_an_expert_that_fails_often_in_the_first_round_is_validated(
    success, validated, teachers, tmp_path, monkeypatch
):
    """A demo was refused whose expert of the incline had 2 of 6 with noise, and 0.98 in its validation."""
    early_of(monkeypatch, [(0.1, 1.0), (0.1, 1.0)])
    attempts = []

    class Validated:
        def __init__(self, teachers, config, *, attempt=None):
            attempts.append(attempt)

        def measure(self, student):
            return Score(*[dict.fromkeys((t.skill.id for t in teachers), value) for value in (1.0, 1.0, 1.0, 0.0)])

    monkeypatch.setattr(quick_rounds, "StudentValidation", Validated)
    monkeypatch.setattr(EarlyTest, "lowest_success", success)
    merge_experts(teachers, tmp_path / "a", replace(QUICK, min_teacher_success=0.5))
    assert attempts == [*validated, 0]


def test_poor_experts_and_skills_that_cannot_share_are_refused(tmp_path, monkeypatch):
    poor = [make_teacher("biped/flat", 1), make_teacher("biped/gaps", 2, 256)]
    poor = [replace(t, skill=replace(t.skill, episode_steps=64)) for t in poor]
    with pytest.raises(ConfigError, match=r"min_teacher_success is 0\.9"):
        merge_experts(poor, tmp_path / "a", replace(QUICK, min_teacher_success=0.9))
    unbounded = replace(poor[0].skill.task)
    monkeypatch.setattr(type(unbounded), "bounded", False)
    with pytest.raises(ConfigError, match="biped/flat cannot share its simulations"):
        merge_experts(poor, tmp_path / "b", QUICK)
    assert not (tmp_path / "b" / "config.json").exists()
