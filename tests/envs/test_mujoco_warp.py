"""The Warp engine on Warp's CPU device does the physics of the CPU engine, to float32.

How far may two engines drift apart in a second? Contact multiplies differences, by how much depends on the terrain and
the moment, so no fixed number fits all of it. The yardstick is therefore measured beside: the CPU engine against a
twin whose state is rounded to float32 after every policy step and whose solver stops at mujoco_warp's tolerance (1e-6
in place of 1e-8). The twin rounds 28 numbers once where mujoco_warp rounds every intermediate result of four physics
steps; errors of thousands of roundings add up like a random walk, to some ten times those of one rounding. That is
``ROUNDINGS``. ``FLOOR`` is what one such step leaves where nothing multiplies it: positions up to 45 m from the origin
have a spacing of 4e-6 in float32; contact and limits accelerate the light links by up to 1e4 rad/s^2, whose rounding
is worth 1e-7 * 1e4 / 120 = 1e-5 rad/s in every physics step, and joint damping forgets after some ten steps.

Where contact is on the verge, a robot may take another way altogether, in the twin as in the engine: bounds therefore
hold for quantiles over the starts, and rewards, which a few such robots hardly move, are compared to 3 %.
"""

from functools import partial
from importlib.util import find_spec
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
from warp_worlds import EACH_ITS_OWN, SIMS, beside, coarse_engine, scatter, warp_engine, warped
from worlds import TERRAINS, batched, random_actions

from policykd.agents.episodes import run_episodes
from policykd.agents.files.policy_file import load_policy
from policykd.envs.masked_env import MaskedEnv
from policykd.envs.physics.contact_budget import ContactSizes
from policykd.envs.physics.ground_boxes import ground_fields
from policykd.envs.physics.protocol import FIELDS
from policykd.envs.skills import get_skill
from policykd.envs.stepping import TorchBackend
from policykd.errors import ConfigError

pytestmark = [
    pytest.mark.warp,
    pytest.mark.skipif(find_spec("mujoco_warp") is None, reason="mujoco_warp is not installed: make test-warp"),
]

EXPERT = Path(__file__).parent.parent / "data" / "flat-expert"
ROUNDINGS = 10.0
FLOOR = {"qpos": 1e-5, "qvel": 1e-4}
ROOMY = ContactSizes(40, 160)


@pytest.fixture(autouse=True)
def _mujoco_log_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def drift(env, reference, field):
    """(SIMS,) largest difference of a coordinate."""
    mine, theirs = (e.engine.field(field).double() for e in (env, reference))
    return (mine - theirs).abs().amax(dim=1)


@pytest.mark.parametrize("name", TERRAINS)
def test_one_second_goes_as_on_the_cpu_engine(name):
    cpu = batched(name, SIMS, config=EACH_ITS_OWN, seed=3, threads=1)
    twin = beside(name, coarse_engine, seed=3)
    warp = warped(name, seed=3)
    scatter([cpu, twin, warp])
    actions = random_actions(6, SIMS, scale=0.3, seed=1).repeat_interleave(5, dim=0)
    earned = torch.zeros(3, dtype=torch.float64)
    for action in actions:  # 30 policy steps are a second
        earned += torch.stack([e.step(action, restart=False).reward.double().mean() for e in (cpu, twin, warp)])
        for field in ("qpos", "qvel"):
            state = twin.engine.field(field)
            state.copy_(state.float().double())
    for field, floor in FLOOR.items():
        mine, yardstick = drift(warp, cpu, field), drift(twin, cpu, field)
        for share in (0.5, 0.75):
            assert mine.quantile(share) <= ROUNDINGS * yardstick.quantile(share) + floor, (field, share)
    assert float(earned[2]) == pytest.approx(float(earned[0]), rel=0.03)
    assert (cpu.engine.field("qpos")[:, 0] - 1).abs().max() > 2, "the robots are not on the terrain"
    warp.engine.check_overflow()


def test_a_trained_expert_earns_the_same():
    expert, earned = load_policy(EXPERT).policy, []
    for env in (batched("flat", SIMS, config=EACH_ITS_OWN, seed=4, threads=1), warped("flat", seed=4)):
        env.seed(5)
        earned.append(float(run_episodes(expert, env).reward_per_step.mean()))
    assert earned[0] > 0.7
    assert earned[1] == pytest.approx(earned[0], rel=0.03)


def test_its_boxes_are_those_of_the_cpu_engines():
    from policykd.envs.physics.mujoco_warp import _boxes  # needs mujoco_warp

    draw = torch.Generator().manual_seed(0)
    pose = 4 * torch.rand(5, 7, 3, generator=draw, dtype=torch.float64) - 2
    half = torch.rand(5, 7, 2, generator=draw, dtype=torch.float64)
    theirs, mine = ground_fields(pose.numpy(), half.numpy()), _boxes(pose, half)
    for name in ("geom_size", "geom_rbound"):
        np.testing.assert_allclose(mine[name], theirs[name], atol=1e-12)
    np.testing.assert_allclose(mine["geom_aabb"].flatten(-2), theirs["geom_aabb"], atol=1e-12)
    np.testing.assert_allclose(mine["geom_xpos"], theirs["geom_pos"], atol=1e-12)
    for quat, matrix in zip(theirs["geom_quat"].reshape(-1, 4), mine["geom_xmat"].view(-1, 9), strict=True):
        expected = np.empty(9)
        mujoco.mju_quat2Mat(expected, quat)
        np.testing.assert_allclose(matrix, expected, atol=1e-12)


def test_fields_are_live_float32_and_computed_in_torch():
    env = warped("flat", 3, sizes=ROOMY)
    fields = {name: env.engine.field(name) for name in FIELDS}
    assert all(f.dtype == torch.float32 and len(f) == 3 for f in fields.values())
    assert type(env._backend) is TorchBackend
    env.reset()
    before = {name: f.clone() for name, f in fields.items()}
    env.step(torch.ones(3, 11))
    assert all(not torch.equal(before[name], f) for name, f in fields.items())


def spoil_position(env):
    env.engine.field("qpos")[2, 5] = torch.nan


def spoil_velocity(env):
    env.engine.field("qvel")[2, 1] = torch.inf


def spoil_action(env):
    return torch.nan


@pytest.mark.parametrize("spoil", [spoil_position, spoil_velocity, spoil_action])
def test_a_failing_world_leaves_the_others_alone(spoil):
    spoilt, calm = (warped("steps", 6, sizes=ROOMY) for _ in range(2))
    spoilt.reset()
    calm.reset()
    others = [0, 1, 3, 4, 5]
    for k in range(6):
        action = torch.zeros(6, 11)
        if k == 3:
            action[2, 4] = spoil(spoilt) or 0.0
        mine, theirs = spoilt.step(action), calm.step(torch.zeros(6, 11))
        assert mine.failed.tolist() == mine.terminated.tolist() == [k == 3 and i == 2 for i in range(6)]
        assert torch.equal(mine.flat[others], theirs.flat[others])
        assert mine.flat.isfinite().all()
        assert mine.final_flat.isfinite().all()
    assert (spoilt.failures, calm.failures) == (1, 0)


def test_masks_and_numbers_reset_and_move_the_same():
    numbers, masks = (warped("steps", 6, sizes=ROOMY).engine for _ in range(2))
    ids, mask = torch.tensor([1, 4]), torch.tensor([False, True, False, False, True, False])
    draw = torch.Generator().manual_seed(0)
    boxes = numbers.snapshot()["geom_size"].shape[1]
    qpos, qvel = torch.rand(6, 14, generator=draw), torch.rand(6, 14, generator=draw)
    pose, half = torch.rand(6, boxes, 3, generator=draw), torch.rand(6, boxes, 2, generator=draw)
    targets = torch.rand(6, 11, generator=draw)
    for engine in (numbers, masks):
        engine.step(targets)
    numbers.reset(ids, qpos[ids], qvel[ids])
    numbers.set_ground(ids, pose[ids], half[ids])
    masks.reset_where(mask, qpos, qvel)
    masks.set_ground_where(mask, pose, half)
    for _ in range(2):
        mine, theirs = masks.snapshot(), numbers.snapshot()
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
        for engine in (numbers, masks):
            engine.step(targets)


def test_a_restarted_world_forgets_its_last_episode():
    engine = warped("flat", 2, sizes=ROOMY).engine
    start = torch.zeros(2, 14)
    start[:, 1] = 3.0  # in the air
    targets = torch.full((2, 11), 0.2)
    for _ in range(3):
        engine.step(targets)
    engine.reset(torch.arange(2), start, torch.zeros(2, 14))
    engine.step(targets)
    assert engine.snapshot()["time"].tolist() == pytest.approx([4 / 120] * 2)


def test_a_snapshot_is_gone_on_from():
    env = warped("gaps", 8, sizes=ROOMY)
    env.reset()
    actions = random_actions(12, 8)
    for action in actions[:6]:
        env.step(action)
    state = env.state_dict()
    runs = []
    for _ in range(2):
        env.load_state_dict(state)
        runs.append([env.step(action).flat for action in actions[6:]])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_dropped_contacts_are_reported():
    tight = warped("steps", 6, sizes=ContactSizes(1, 4))
    tight.reset()
    for action in random_actions(3, 6):
        tight.step(action)
    with pytest.raises(ConfigError, match="room for 6 contacts and 4 constraints per world"):
        tight.engine.check_overflow()
    assert tight.engine.overflow() == {}, "asking clears it"
    roomy = warped("steps", 6, sizes=ROOMY)
    roomy.reset()
    roomy.step(torch.zeros(6, 11))
    roomy.engine.check_overflow()


def test_a_world_that_dropped_contacts_fails_alone():
    import mujoco_warp as mjw

    spoilt, calm = (warped("steps", 6, sizes=ROOMY) for _ in range(2))
    for env in (spoilt, calm):
        env.reset()
    mask = spoilt.engine._data.overflow.numpy()
    mask[2] = int(mjw.OverflowType.NEFC | mjw.OverflowType.ITERATIONS)
    mask[3] = int(mjw.OverflowType.ITERATIONS)  # a solver that stopped at its limit is not a failure
    spoilt.engine._data.overflow.assign(mask)
    action = torch.zeros(6, 11)
    mine, theirs = spoilt.step(action), calm.step(action)
    assert mine.failed.tolist() == mine.terminated.tolist() == [i == 2 for i in range(6)]
    others = [0, 1, 3, 4, 5]
    assert torch.equal(mine.flat[others], theirs.flat[others])
    assert spoilt.failures == 1
    assert not spoilt.step(action).failed.any(), "it was counted in one step only"
    spoilt.engine._steps = 1001 // 6 + 1  # one of more than a thousand steps is rare
    assert spoilt.engine.overflow() == {"NEFC": 1, "ITERATIONS": 2}
    spoilt.engine.check_overflow()
    assert spoilt.engine._steps == 0


def test_more_worlds_than_simulations_change_nothing():
    exact, rounded = (
        MaskedEnv([get_skill("biped/steps")], 6, config=EACH_ITS_OWN,
                  make_engine=partial(warp_engine, sizes=ROOMY, worlds=worlds))
        for worlds in (None, 8)
    )  # fmt: skip
    for env in (exact, rounded):
        env.reset()
    fields = ("qpos", "qvel", "actuator_force", "geom_xpos")
    assert all(len(rounded.engine.field(name)) == 6 for name in fields)
    for action in random_actions(12, 6):
        mine, theirs = rounded.step_masked(action), exact.step_masked(action)
        assert torch.equal(mine.flat, theirs.flat)
        assert torch.equal(mine.failed, theirs.failed)
    assert all(torch.equal(rounded.engine.field(name), exact.engine.field(name)) for name in fields)
    with pytest.raises(ConfigError, match="worlds is 5"):
        warped("flat", 6, sizes=ROOMY).engine.__class__(
            mujoco.MjModel.from_xml_string("<mujoco/>"), 6, 0, 4, sizes=ROOMY, device="cpu", worlds=5
        )


def test_the_masked_environment_runs_on_it():
    sizes = ROOMY
    numbers = warped("steps", 6, sizes=sizes)
    masks = MaskedEnv([get_skill("biped/steps")], 6, config=EACH_ITS_OWN,
                      make_engine=lambda *a: type(numbers.engine)(*a, sizes=sizes, device="cpu"))  # fmt: skip
    numbers.reset()
    masks.reset()
    masks.engine.reset(torch.arange(6), numbers.engine.field("qpos"), numbers.engine.field("qvel"))
    for action in random_actions(5, 6, scale=0.2):
        mine, theirs = masks.step_masked(action), numbers.step(action)
        running = ~theirs.terminated
        torch.testing.assert_close(mine.final_flat[running], theirs.flat[running], rtol=0, atol=1e-6)


def test_an_unknown_device_is_refused():
    with pytest.raises(ConfigError, match="Warp has no device 'meta'"):
        warped("flat", 2, sizes=ROOMY).engine.__class__(
            mujoco.MjModel.from_xml_string("<mujoco/>"), 2, 0, 4, sizes=ROOMY, device="meta"
        )
