"""Students with a memory: episodes in order, backpropagation along them, states reset and carried, resume, files."""

from dataclasses import replace

import pytest
import torch
from teacher_samples import TINY, make_teacher
from torch import nn

from policykd.agents.acting import Acting, replay
from policykd.agents.architecture import Architecture, Memory, student_architecture
from policykd.agents.files.description import describe_policy
from policykd.agents.files.policy_file import load_policy, save_policy
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import RecurrentPolicy, make_policy
from policykd.curriculum.add_skill import add_skill
from policykd.envs.make import make_env
from policykd.envs.skills import get_skill
from policykd.errors import ConfigError, ContractError, UnknownNameError
from policykd.merge import LabeledData, merge_data, merge_experts
from policykd.merge.collect import ActionNoise, Collection, collect, dart_noise
from policykd.merge.data.pool import StatePool
from policykd.merge.data.rollout import LabeledRollout
from policykd.merge.data.sequences import SequencePool
from policykd.merge.distiller import _Merge
from policykd.merge.fitting import Fitting
from policykd.merge.student import first_student
from policykd.merge.teachers import offering

SHAPES = [Memory("gru", 6, dense=5), Memory("lstm", 6, dense=5), Memory("gru", 6), Memory("lstm", 6)]
KINDS = pytest.mark.parametrize("memory", SHAPES, ids=lambda m: f"{m.kind}-{m.dense}")
CONFIG = replace(TINY, updates=3, minibatch=12, truncation=4)


def recurrent(memory, inputs=3, actions=2, seed=1):
    """A policy whose actions depend strongly on what came before."""
    policy = make_policy({"a": inputs}, actions, Architecture((8,), (4,), memory=memory), seed)
    with torch.no_grad():
        policy.actor[-1].weight.mul_(100.0)
        for name in ("weight_hh", "weight_ih"):
            policy.memory.get_parameter(name).mul_(2.0)
    return policy


def rollout_of(ended, features=3, actions=2, seed=0, distances=None):
    """A rollout whose first feature tells its step and simulation: step + 100 * simulation."""
    ended = torch.as_tensor(ended)
    steps, n = ended.shape
    draws = torch.Generator().manual_seed(seed)
    observations = torch.randn(steps, n, features, generator=draws)
    observations[..., 0] = torch.arange(steps)[:, None] + 100.0 * torch.arange(n)
    return LabeledRollout(
        observations.flatten(0, 1), torch.rand(steps * n, actions, generator=draws) - 0.5, torch.zeros(steps, n), ended,
        torch.zeros_like(ended), torch.ones_like(ended), torch.zeros(0, dtype=torch.long), torch.zeros(0, features),
        torch.zeros(steps * n), torch.zeros(steps * n) if distances is None else distances,
    )  # fmt: skip


def ends(steps, n, *places):
    grid = torch.zeros(steps, n, dtype=torch.bool)
    for place in places:
        grid[place] = True
    return grid


def pool_of(rollout, skills=1, support=None):
    pool = SequencePool(skills, support=support)
    for i in range(skills):
        pool.add(i, rollout)
    return pool


@KINDS
def test_sequences_are_single_steps_one_after_the_other(memory):
    policy, rows = recurrent(memory), torch.randn(9, 4, 3)
    state = torch.randn(4, policy.state_size)
    means, after = policy.unroll(rows, state)
    for t in range(9):
        mean, state = policy.advance(rows[t], state)
        torch.testing.assert_close(means[t], mean, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(after, state, atol=1e-6, rtol=1e-5)
    assert means[1:].std() > 0.1
    before = policy.unroll(rows, torch.zeros_like(state))[0]
    assert (before[0] - means[0]).abs().max() > 1e-3  # the state counts
    gradients = torch.autograd.grad(means[-1].sum(), policy.acting_parameters())
    assert all(g.abs().sum() > 0 for g in gradients)
    assert architecture_size(policy) == sum(p.numel() for p in policy.parameters())


def architecture_size(policy):
    return policy.architecture.parameters(policy.groups, policy.actions)


def test_a_rollout_is_cut_into_episodes():
    distances = torch.zeros(6, 2)
    distances[2:, 1] = 9.0
    pool = pool_of(rollout_of(ends(6, 2, (1, 0), (5, 0), (2, 1)), distances=distances.flatten()), support=8.0)
    found = [(e.observations[:, 0].tolist(), e.counts.tolist()) for e in pool.episodes(0)]
    assert found == [
        ([0.0, 1.0], [True] * 2),
        ([2.0, 3.0, 4.0, 5.0], [True] * 4),
        ([100.0, 101.0, 102.0], [True, True, False]),  # read, because the memory needs it, and not compared
    ]  # the episode of simulation 1 from step 3 on has no label that counts
    assert pool.states == 12
    assert pool.masked == [4 / 12]
    far = pool_of(rollout_of(ends(6, 2), distances=torch.full((12,), 9.0)), support=8.0)
    with pytest.raises(ConfigError, match="no state of skill 1 is within it"):
        far.episodes(0)


def test_only_the_latest_rounds_are_read():
    pool = SequencePool(1, rounds_kept=2)
    for seed in range(4):
        pool.add(0, rollout_of(ends(3, 1), seed=seed))
    assert [torch.equal(e.labels, rollout_of(ends(3, 1), seed=s).labels)
            for e, s in zip(pool.episodes(0), (2, 3), strict=True)] == [True, True]  # fmt: skip


def test_lanes_read_whole_episodes_window_after_window():
    """Lengths 3 (of 10) and 10, windows of 4: every lane reads steps in order and begins again at an end."""
    pool = pool_of(rollout_of(ends(10, 2, (2, 0))), skills=2)
    lanes = pool.lanes([3, 2], 4, torch.Generator().manual_seed(0))
    expected = [None] * 5
    begun = 0
    for _ in range(60):
        window = lanes.next()
        assert window.skill.tolist() == [0, 0, 0, 1, 1]
        assert window.runs.all()
        for lane in range(5):
            counted = window.counts[:, lane]
            seen = window.observations[counted, lane, 0].tolist()
            begun += bool(window.begins[lane])
            if window.begins[lane]:
                assert expected[lane] is None
                assert seen[0] in (0.0, 3.0, 100.0)
            else:
                assert seen[0] == expected[lane]
            assert seen == [seen[0] + i for i in range(len(seen))]
            last = {0.0: 2.0, 3.0: 9.0, 100.0: 109.0}[max(s for s in (0.0, 3.0, 100.0) if s <= seen[0])]
            expected[lane] = None if seen[-1] == last else seen[-1] + 1
            assert len(seen) == 4 or seen[-1] == last
            assert not window.observations[~counted, lane].any()
    assert begun > 60  # episodes of 1, 2 and 3 windows, drawn alike


def test_lanes_are_spread_over_their_episodes():
    pool = pool_of(rollout_of(ends(40, 1)))
    lanes = pool.lanes([30], 4, torch.Generator().manual_seed(0))
    moved = torch.zeros(30, dtype=torch.long)
    for window in lanes.spread():
        assert torch.equal(window.counts.any(dim=0), window.runs)
        assert torch.equal(window.observations[0, window.runs, 0], 4.0 * moved[window.runs])  # each from the begin on
        assert torch.equal(window.begins, window.runs & (moved == 0))
        moved += window.runs
    assert len(set(moved.tolist())) > 6
    assert moved.max() <= 9
    assert torch.equal(lanes.next().observations[0, :, 0], 4.0 * moved)


@KINDS
@pytest.mark.parametrize("truncation", [3, 20])
def test_losses_are_those_of_the_policy_that_acts_through_whole_episodes(memory, truncation):
    """While the weights do not change, every window's loss is the error of acting step by step from the begin on."""
    policy, rollout = recurrent(memory), rollout_of(ends(12, 4, (4, 0), (4, 1), (11, 2)))
    policy.normalizer.update(rollout.observations)
    pool, config = pool_of(rollout), replace(CONFIG, truncation=truncation, minibatch=4 * truncation)
    fitting = Fitting(policy, torch.zeros(1, 2), config)
    error = (replay(policy, rollout.observations, rollout.terminated) - rollout.labels).square().mean(dim=1)
    by_place = dict(zip(rollout.observations[:, 0].tolist(), error.tolist(), strict=True))
    lanes = pool.lanes([4], truncation, torch.Generator().manual_seed(7))
    for _ in lanes.spread():
        pass
    losses = fitting._losses(pool, [4 * truncation], torch.Generator().manual_seed(7))
    for _ in range(12):
        window, loss = lanes.next(), next(losses)
        seen = window.observations[window.counts][:, 0].tolist()
        assert loss.item() == pytest.approx(sum(by_place[place] for place in seen) / len(seen), rel=1e-4)
    assert fitting.loss_along(pool, 0) == pytest.approx(float(error.mean()), rel=1e-4)


def test_what_needs_a_memory_is_learned_by_a_student_that_has_one():
    """The label is the mean of the first feature over the episode so far: one observation does not tell it."""
    torch.manual_seed(0)
    ended = ends(40, 12, *((19, i) for i in range(6)))
    rollout = rollout_of(ended)
    signal = torch.randn(40, 12)
    rollout.observations.view(40, 12, 3)[..., 0] = signal
    labels = torch.zeros(40, 12, 2)
    for i in range(12):
        for part in (slice(0, 20), slice(20, 40)) if i < 6 else (slice(0, 40),):
            block = signal[part, i]
            labels[part, i] = 0.5 * (block.cumsum(0) / torch.arange(1, len(block) + 1))[:, None]
    rollout.labels = labels.flatten(0, 1)
    found = {}
    for name, memory in (("mlp", None), ("gru", Memory("gru", 16, dense=16)), ("lstm", Memory("lstm", 16, dense=16))):
        policy = make_policy({"a": 3}, 2, Architecture((16,), (4,), memory=memory), 0)
        config = replace(CONFIG, updates=100, minibatch=160, truncation=8, rounds=2, learning_rate=1e-2)
        pool = StatePool(1) if memory is None else SequencePool(1)
        pool.add(0, rollout)
        fitting = Fitting(policy, torch.zeros(1, 2), config)
        for round_ in (0, 1):
            fitting.fit(pool, [160], round_, torch.Generator().manual_seed(round_))
        with torch.no_grad():
            error = replay(policy, rollout.observations, ended) - rollout.labels
        found[name] = float(error.square().mean() / rollout.labels.var())
    assert found["mlp"] > 0.5
    assert max(found["gru"], found["lstm"]) < 0.15


@torch.no_grad()
def test_a_student_that_collects_remembers_its_own_episodes():
    """Executed actions are those of stepping through the recorded observations, also after the teacher has acted."""
    teacher = make_teacher("biped/gaps", 1, episode_steps=40)
    size = teacher.skill.group_sizes
    student = make_policy(size, teacher.policy.actions, Architecture((8,), (4,), memory=SHAPES[0]), 2)
    nn.init.normal_(student.actor[-1].weight, std=1.0, generator=torch.Generator().manual_seed(0))
    env, sent = make_env([teacher.skill], 6, seed=0, threads=1), []
    step = env.step

    def record(actions):
        sent.append(actions.clone())
        return step(actions)

    env.step = record
    source = Collection(teacher, env, ActionNoise(0.0), torch.Generator().manual_seed(1))
    (rollout,) = collect([source], student, beta=0.5, mixing="step")
    ended = rollout.terminated | rollout.truncated
    assert ended[:-1].any(), "no episode ended early, so nothing is tested"
    own = replay(student, rollout.observations, ended).view(40, 6, -1)
    mine = rollout.student_acted
    assert 0.2 < float(mine.double().mean()) < 0.8
    torch.testing.assert_close(torch.stack(sent)[mine], own[mine], atol=1e-5, rtol=1e-5)
    noise = dart_noise(student, rollout, 0.1)  # of errors along episodes, where the teacher acted
    rows = ~mine.view(-1)
    error = (own.flatten(0, 1)[rows].clamp(-1, 1) - rollout.labels[rows]).double()
    covariance = error.T @ error / len(error)
    expected = covariance * (len(covariance) / covariance.trace())
    torch.testing.assert_close((noise.shape @ noise.shape.T).double(), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["gru", "lstm", "moe", "latent"])
def test_a_killed_merge_of_every_architecture_ends_in_the_same_weights(name, teachers, tmp_path, monkeypatch):
    shape = student_architecture(name, (8,), 6 if name in ("gru", "lstm") else None)
    groups = ("proprio", "proprio:2") if name == "latent" else ("proprio", "terrain:2")
    config = replace(CONFIG, architecture=shape, groups=groups, critic="td", noise_model="dart")
    whole = load_policy(merge_experts(teachers, tmp_path / "whole", config).policy_path)
    assert (whole.policy.recurrent, whole.policy.latent) == (name in ("gru", "lstm"), name == "latent")
    if name == "latent":  # the privileged groups are those of the teachers that the student does not read
        assert list(whole.policy.groups) == ["terrain", "proprio", "proprio:2"]
        shape = replace(shape, latent=replace(shape.latent, history=("proprio:2",), privileged=("terrain",)))
        assert whole.policy.architecture == shape
    assert whole.manifest.format_version == 6
    assert whole.manifest.parameters == sum(v.numel() for v in whole.policy.state_dict().values())
    kept = _Merge._collect_round

    def stop(merge):
        if merge._round == 1:
            raise KeyboardInterrupt
        kept(merge)

    monkeypatch.setattr(_Merge, "_collect_round", stop)
    with pytest.raises(KeyboardInterrupt):
        merge_experts(teachers, tmp_path / "killed", config)
    monkeypatch.setattr(_Merge, "_collect_round", kept)
    resumed = load_policy(merge_experts(teachers, tmp_path / "killed", config, resume=True).policy_path)
    assert resumed.manifest.weights_sha256 == whole.manifest.weights_sha256
    again = replace(config, start="previous", groups=tuple(whole.policy.groups))
    again = merge_experts(teachers, tmp_path / "again", again, init=whole)
    assert load_policy(again.policy_path).policy.architecture == shape  # a student is a start like any other


def test_recorded_sequences_are_merged_without_a_simulator(teachers, tmp_path):
    config = replace(CONFIG, architecture=student_architecture("gru", (8,), 6), envs=4)
    merge_experts(teachers, tmp_path / "run", config)
    again = replace(config, critic="teacher", held_out=0.25, updates=10)
    result = merge_data([tmp_path / "run"], tmp_path / "data", again)
    policy = load_policy(result.policy_path).policy
    assert isinstance(policy, RecurrentPolicy)
    rollout = LabeledData.open(tmp_path / "run").find(0, "biped/gaps")
    ended = rollout.terminated | rollout.truncated
    held = [rollout.observations.view(24, 4, -1)[:, 3], rollout.labels.view(24, 4, -1)[:, 3]]
    later = LabeledData.open(tmp_path / "run").find(1, "biped/gaps")
    with torch.no_grad():
        errors = [(replay(policy, held[0], ended[:, 3:]) - held[1]).square()]
        over = (later.terminated | later.truncated)[:, 3:]
        errors.append((replay(policy, later.observations.view(24, 4, -1)[:, 3], over)
                       - later.labels.view(24, 4, -1)[:, 3]).square())  # fmt: skip
    assert result.held_out_loss["biped/gaps"] == pytest.approx(float(torch.cat(errors).mean()), rel=1e-4)


def test_a_latent_needs_something_to_estimate_and_something_to_estimate_it_from(teachers):
    config = replace(CONFIG, architecture=student_architecture("latent"))
    for groups in ((), ("proprio",), ("proprio", "terrain:2"), ("proprio", "proprio:2", "terrain")):
        with pytest.raises(ConfigError, match="estimates groups that it does not read from histories that it reads"):
            first_student(offering(teachers, groups), replace(config, groups=groups), None)


def test_architectures_by_name():
    gru = student_architecture("gru", (64, 32), 48)
    assert (gru.hidden, gru.memory) == ((64, 32), Memory("gru", 48, dense=128))
    assert student_architecture("mlp") == TINY_DEFAULT
    with pytest.raises(UnknownNameError, match="did you mean gru"):
        student_architecture("grru")
    with pytest.raises(ConfigError, match="set architecture=gru or lstm"):
        student_architecture("moe", None, 8)
    with pytest.raises(ConfigError, match="has no weights"):
        Memory("frame-stack", 4, dense=8)


TINY_DEFAULT = Architecture(hidden=(256, 256))


def test_replay_of_a_policy_without_memory_is_the_policy():
    policy, rollout = Policy({"a": 3}, 2, Architecture((4,), (4,)), 0), rollout_of(ends(3, 2))
    assert torch.equal(replay(policy, rollout.observations, rollout.terminated), Acting(policy)(rollout.observations))


def test_what_reinforcement_learning_does_not_train_gets_no_skill_added(tmp_path):
    """It is said before anything is measured; the description of a history names what it remembers."""
    skill = get_skill("biped/flat", ("proprio", "proprio:2", "terrain"))
    for name, match in (("gru", "without memory"), ("latent", "has a latent")):
        shape = student_architecture(name, (4,))
        if name == "latent":
            shape = replace(shape, latent=replace(shape.latent, history=("proprio:2",), privileged=("terrain",)))
        policy = make_policy(skill.group_sizes, skill.robot.num_actions, shape, 0)
        save_policy(tmp_path / name, policy, robot=skill.robot, skills=[skill.id], operation="merge", seed=0)
        with pytest.raises(ContractError, match=match):
            add_skill(tmp_path / name, "biped/steps", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    units = {one.group: one.units for one in describe_policy(load_policy(tmp_path / "gru")).inputs}
    assert units["proprio:2"] == f"the last 2 readings of: {units['proprio']}"
