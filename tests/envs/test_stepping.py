"""The compiled backend does what the backend in torch does, and stays out of the way of a user's own parts."""

import fcntl
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from worlds import FEW, TERRAINS, batched, random_actions

from policykd.envs import batched_env, observations, stepping
from policykd.envs.batched_env import BatchedEnv
from policykd.envs.compiled import compiled, compiled_at_first_use
from policykd.envs.physics import numba_kernels
from policykd.envs.skills import get_skill
from policykd.envs.stepping import TorchBackend
from policykd.envs.stepping.numba_backend import FastView, NumbaBackend
from policykd.envs.tasks import Walk

GROUPS = ("proprio", "phase", "terrain")


def close(a, b, atol=1e-12):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=atol)


class Notes:
    """An engine of which only the ground is written down."""

    def __init__(self, engine):
        self._engine, self.num_sims, self.device, self.calls = engine, engine.num_sims, engine.device, []

    def field(self, name):
        return self._engine.field(name)

    def set_ground(self, ids, pose, half):
        self.calls.append((ids.clone(), pose.clone(), half.clone()))


def pair(env):
    """The compiled backend and the one in torch over the states of an environment, on its tracks."""
    both = []
    for kind in (NumbaBackend, TorchBackend):
        notes = Notes(env.engine)
        both.append((kind(notes, env.skill, env._bank.tracks, env._backend._boxes), notes))
    return both


def scattered(name, num_envs=24, seed=0, groups=GROUPS):
    """An environment after some steps, with its robots spread along tracks that they have not walked."""
    env = batched(name, num_envs, groups=groups)
    env.reset()
    for action in random_actions(12, num_envs, seed=seed):
        env.step(action, restart=False)
    draw = torch.Generator().manual_seed(seed)
    qpos = env.engine.field("qpos")
    qpos[:, 0] = 60 * torch.rand(num_envs, generator=draw, dtype=torch.float64) - 8  # in front of and behind the track
    qpos[0, 0] = env._bank.tracks.edges[0, 2]  # exactly on an edge
    return env


@pytest.mark.parametrize("name", TERRAINS)
def test_both_backends_see_and_observe_the_same(name):
    env = scattered(name)
    views = []
    ids, some = torch.arange(24), torch.tensor([0, 3, 4, 23])
    rows, clock = torch.arange(24) % 16, torch.linspace(0, 3, 24, dtype=torch.float64)
    height = env.engine.field("qpos")[:, 1] - torch.linspace(0.0, 0.7, 24)  # the last ones lie
    for backend, _ in pair(env):
        backend.start_episodes(ids, rows, clock)
        env.engine.field("qpos")[:, 1] = height + backend.height(env.engine.field("qpos")[:, :1])[:, 0]
        seen = []
        for which in (None, some):
            view = backend.read_state(which)
            flat = backend.observe(view, clock if which is None else clock[which])
            seen.append(({k: v.clone() for k, v in vars(view.state).items()}, view.ground.clone(), view.scan.clone(),
                         view.touching.clone(), flat))  # fmt: skip
        views.append(seen)
    for fused, tensors in zip(*views, strict=True):
        for field, value in fused[0].items():
            close(value, tensors[0][field])
        for mine, theirs in zip(fused[1:3], tensors[1:3], strict=True):
            assert torch.equal(mine, theirs), "heights are the same sums"
        assert torch.equal(fused[3], tensors[3])
        torch.testing.assert_close(fused[4], tensors[4], rtol=0, atol=2e-6)  # float32 of numbers up to some 10
    assert views[0][0][3].any()
    assert not views[0][0][3].all()


@pytest.mark.parametrize("groups", [("proprio", "terrain"), ("terrain", "proprio"), ("proprio",)])
@pytest.mark.parametrize("name", TERRAINS)
def test_a_glance_finds_out_what_a_look_does(name, groups):
    env = scattered(name, groups=groups)
    env.engine.field("qpos")[:, 2] += torch.linspace(-30.0, 30.0, 24)  # every quarter turn
    (fused, _), (tensors, _) = pair(env)
    ids, clock = torch.arange(24), torch.zeros(24, dtype=torch.float64)
    for backend in (fused, tensors):
        backend.start_episodes(ids, ids % 16, clock)
    height = env.engine.field("qpos")[:, 1] - torch.linspace(0.0, 0.7, 24)
    env.engine.field("qpos")[:, 1] = height + tensors.height(env.engine.field("qpos")[:, :1])[:, 0]
    for some in (torch.tensor([0, 3, 4, 23]), None):
        view, oracle = fused.read_state(some), tensors.read_state(some)
        assert isinstance(view, FastView)
        flat = tensors.observe(oracle, clock if some is None else clock[some])
        torch.testing.assert_close(fused.observe(view, clock), flat, rtol=0, atol=2e-6)
    mine, theirs = (
        b.compute_outcome(v, torch.zeros(24, dtype=torch.bool)) for b, v in ((fused, view), (tensors, oracle))
    )
    assert torch.equal(mine.terminated, theirs.terminated)
    assert mine.terminated.any()
    torch.testing.assert_close(mine.reward, theirs.reward, rtol=0, atol=1e-6)
    assert torch.equal(view.touching, oracle.touching)
    close(view.state.com, oracle.state.com)


@pytest.mark.parametrize("name", TERRAINS)
def test_both_backends_place_the_same_boxes(name):
    env = scattered(name)
    x, calls = env.engine.field("qpos")[:, 0], []
    start = x.clone()
    for backend, notes in pair(env):
        x[:] = start
        backend.start_episodes(torch.arange(24), torch.arange(24) % 16, torch.zeros(24, dtype=torch.float64))
        for step in (0.0, 0.3, 0.0, 0.25, -1.2):
            x[::2] += step
            backend.move_ground()
        calls.append(notes.calls)
    assert [len(ids) for ids, *_ in calls[0]] == [24, 12, 12], "all at first, then those that moved too far"
    for mine, theirs in zip(*calls, strict=True):
        assert torch.equal(mine[0], theirs[0])
        close(mine[1], theirs[1])
        close(mine[2], theirs[2])


def test_both_backends_judge_the_same():
    walk = Walk(speed=1.1, speed_width=0.8, upright_width=0.4, effort_width=0.3, speed_weight=0.5, upright_weight=0.3,
                effort_weight=0.2)  # fmt: skip
    skill = replace(get_skill("biped/steps"), task=walk, episode_steps=7)
    env = BatchedEnv([skill], 40, config=FEW)
    (fused, _), (tensors, _) = pair(env)
    env.reset()
    for backend in (fused, tensors):
        backend.start_episodes(torch.arange(40), torch.zeros(40, dtype=torch.long), torch.linspace(0, 1, 40).double())
        backend.elapsed[:] = torch.arange(40) % 5
    ends = successes = 0
    for k, action in enumerate(random_actions(9, 40)):
        close(fused.targets(action), tensors.targets(action), atol=0.0)
        env.step(action, restart=False)
        env.engine.field("qpos")[:5, 0] += 1.0
        failed = torch.arange(40) == k
        mine, theirs = (backend.compute_outcome(backend.read_state(), failed) for backend in (fused, tensors))
        torch.testing.assert_close(mine.reward, theirs.reward, rtol=0, atol=1e-6)
        for name in ("terminated", "truncated"):
            assert torch.equal(getattr(mine, name), getattr(theirs, name)), name
        for name, value in vars(theirs.episodes).items():
            got = getattr(mine.episodes, name)
            assert got.dtype == value.dtype
            close(got, value)
        assert mine.failures == theirs.failures == 1
        close(fused.elapsed, tensors.elapsed)
        close(fused.clock, tensors.clock)
        close(fused._total_reward, tensors._total_reward)
        ends += len(mine.episodes.ids)
        successes += int(mine.episodes.success.sum())
    assert ends > successes > 0


def test_numbers_that_are_none_reach_the_engine_from_both_backends():
    (fused, _), (tensors, _) = pair(batched("flat", 3))
    actions = torch.tensor([[float("nan")] * 11, [7.0] * 11, [-float("inf")] * 11])
    torch.testing.assert_close(fused.targets(actions), tensors.targets(actions), rtol=0, atol=0, equal_nan=True)
    close(fused.targets(actions[1:].double()), tensors.targets(actions[1:]))


@pytest.mark.parametrize("groups", [GROUPS, ("proprio", "terrain")])
def test_environments_of_both_backends_go_the_same_way(monkeypatch, groups):
    skill = get_skill("biped/gaps", groups=groups)
    fused = BatchedEnv([skill], 16, config=FEW)
    monkeypatch.setattr(batched_env, "make_backend", TorchBackend)
    tensors = BatchedEnv([skill], 16, config=FEW)
    assert (type(fused._backend), type(tensors._backend)) == (NumbaBackend, TorchBackend)
    first, same = fused.reset(stagger=True), tensors.reset(stagger=True)
    ended = 0
    for group in first:
        torch.testing.assert_close(first[group], same[group], rtol=0, atol=1e-6)
    for action in random_actions(25, 16, scale=0.5):  # before rounding grows to something
        mine, theirs = fused.step(action), tensors.step(action)
        assert mine.episodes.ids.tolist() == theirs.episodes.ids.tolist()
        for field in ("flat", "final_flat", "reward"):
            torch.testing.assert_close(getattr(mine, field), getattr(theirs, field), rtol=0, atol=1e-4)
        ended += len(mine.episodes.ids)
    assert ended > 3


@dataclass(frozen=True)
class Jump(Walk):
    def reward(self, now):
        state, mass = now.state, now.mass
        return torch.sigmoid(state.root[:, 1] + state.com_velocity[:, :, 1] @ mass + state.fall_points[:, 0, 0])


@pytest.fixture
def own_groups():
    with observations.GROUPS.scope() as groups:
        yield groups


def test_tasks_and_groups_of_ones_own_are_computed_in_torch(monkeypatch, own_groups):
    pitch = observations.ObservationGroup("pitch", lambda robot: 2, "rad", lambda state, around: torch.stack(
        [state.pitch, around.cycles], dim=1))  # fmt: skip
    shifted = replace(observations.get_group("terrain"), compute=lambda state, around: around.scan + 1.0)
    own_groups.register("pitch", pitch)
    own_groups.unregister("terrain")
    own_groups.register("terrain", shifted)
    skill = replace(get_skill("biped/steps", groups=("terrain", "pitch", "proprio")), task=Jump())
    fused = BatchedEnv([skill], 12, config=FEW)
    monkeypatch.setattr(batched_env, "make_backend", TorchBackend)
    tensors = BatchedEnv([skill], 12, config=FEW)
    fused.reset()
    tensors.reset()
    for action in random_actions(15, 12, scale=0.5):
        mine, theirs = fused.step(action), tensors.step(action)
        for field in ("flat", "final_flat", "reward"):
            torch.testing.assert_close(getattr(mine, field), getattr(theirs, field), rtol=0, atol=1e-4)
    qpos = fused.engine.field("qpos")
    torch.testing.assert_close(mine.observations["pitch"][:, 0], qpos[:, 2].float())
    behind = fused.ground_height(qpos[:, :1] - 0.5)[:, 0].float()
    torch.testing.assert_close(mine.observations["terrain"][:, 0] - 1.0, behind)


def test_other_devices_get_the_backend_in_torch(monkeypatch):
    class Elsewhere:
        device = torch.device("meta")

    monkeypatch.setattr(stepping, "TorchBackend", lambda *arguments: arguments)
    engine = Elsewhere()
    skill = get_skill("biped/flat")
    assert stepping.make_backend(engine, skill, 2, 3, (4,)) == (engine, skill, 2, 3, (4,))


def test_observations_take_part_in_learning():
    step = batched("flat", 3).step(torch.zeros(3, 11))
    weight = torch.ones(step.flat.shape[1], requires_grad=True)
    (step.flat @ weight).sum().backward()
    assert torch.equal(weight.grad, step.flat.sum(0))


def test_what_a_step_returns_is_the_callers_to_keep():
    env = batched("gaps:paper", 8)
    env.reset()
    kept = []
    for action in random_actions(40, 8, scale=0.5):
        step = env.step(action)
        tensors = [step.flat, step.final_flat, step.reward, step.terminated, step.truncated, step.failed,
                   *vars(step.episodes).values()]  # fmt: skip
        kept.append((tensors, [t.clone() for t in tensors]))
    assert all(torch.equal(a, b) for tensors, copies in kept for a, b in zip(tensors, copies, strict=True))


def test_loops_are_compiled_without_a_folder_to_keep_them_in(monkeypatch):
    """As in a container whose file system is read-only."""
    asked = []

    def refuse(cache, function):
        asked.append(function)
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(numba.core.caching.FunctionCache, "__init__", refuse)
    failures = numba_kernels.failures.__wrapped__
    for again in (compiled("void(int32[:, :], boolean[::1])")(failures), compiled_at_first_use(failures)):
        failed = np.empty(2, bool)
        again(np.array([[0, 0], [0, 3]], np.int32), failed)
        assert failed.tolist() == [False, True]
        assert again.dispatcher.nopython_signatures
    assert asked == [failures, failures]


def test_what_another_process_compiles_is_waited_for(monkeypatch):
    """The lock is held here, as by another process: every open file has its own."""
    kernel, begun = compiled("void(boolean[::1])")(negate), threading.Event()
    compile_it = kernel.dispatcher.compile
    monkeypatch.setattr(kernel.dispatcher, "compile", lambda signature: (begun.set(), compile_it(signature)))
    called = threading.Thread(target=kernel, args=(flags := np.array([True, False]),))
    with Path(negate.__code__.co_filename).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        called.start()
        assert not begun.wait(0.3)
        assert flags.tolist() == [True, False]
    called.join()
    assert flags.tolist() == [False, True]


def test_one_compilation_serves_one_simulation_and_several():
    """Rows of one simulation are contiguous, rows of several are not."""
    twice = compiled_at_first_use(strided=("rows",))(doubled)
    for rows in (np.ones((1, 3)), np.ones((2, 5))[:, :3]):
        out = np.empty_like(rows)
        twice(rows, out)
        assert out.tolist() == [[2.0] * 3] * len(rows)
    assert len(twice.dispatcher.signatures) == 1
    twice(np.ones((1, 3), np.float32), out)
    assert len(twice.dispatcher.signatures) == 2, "another type"


def negate(flags):
    for i in range(len(flags)):
        flags[i] = not flags[i]


def doubled(rows, out):
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            out[i, j] = 2.0 * rows[i, j]
