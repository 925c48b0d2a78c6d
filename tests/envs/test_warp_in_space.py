"""Robots in space on Warp's CPU device: the physics, grounds and rewards of the CPU engine, to float32.

As in ``test_mujoco_warp``, the yardstick of how far two engines drift apart is a twin of the CPU engine that rounds its
state to float32 after every step and stops its solver at mujoco_warp's tolerance. Robots in space take at most four
iterations of the solver, after which two implementations of it are at different places; where engines are compared
they iterate until they are done, and the rewards are compared at four, too.
"""

from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from warp_worlds import coarse_engine, warp_engine

from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.masked_env import MaskedEnv
from policykd.envs.physics import BatchEngine
from policykd.envs.physics.contact_budget import ContactSizes
from policykd.envs.physics.ground_boxes import box_fields, ground_fields
from policykd.envs.skills import get_skill
from policykd.envs.stepping.spatial_torch import SpatialTorchBackend
from policykd.envs.tumbling import measure_tumbling

pytestmark = [
    pytest.mark.warp,
    pytest.mark.skipif(find_spec("mujoco_warp") is None, reason="mujoco_warp is not installed: make test-warp"),
]
SIMS, STEPS, ROUNDINGS = 48, 40, 10.0
FLOOR = {"qpos": 1e-5, "qvel": 3e-3}  # joints are light: what one rounding leaves where nothing multiplies it
ROOMY = ContactSizes(32, 128)


@pytest.fixture(autouse=True)
def _mujoco_log_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def world(name, make_engine=None, kind=BatchedEnv, sims=SIMS):
    config = EnvConfig(tracks=sims, ordered=True)
    return kind([get_skill(name)], sims, seed=3, config=config, threads=1, make_engine=make_engine)


def until_done(make_engine):
    """An engine whose solver is not stopped at the robot's number of iterations."""

    def make(model, num_sims, boxes, decimation):
        model.opt.iterations, model.opt.ls_iterations = 100, 50
        return make_engine(model, num_sims, boxes, decimation)

    return make


def scatter(envs):
    """Stand the robots of environments on the same random places of their grounds."""
    draw = torch.Generator().manual_seed(1)
    for env in envs:
        env.reset()
    qpos, qvel = (envs[0].engine.field(name).double().clone() for name in ("qpos", "qvel"))
    qpos[:, 0] += 0.5 + 5 * torch.rand(len(qpos), generator=draw, dtype=torch.float64)
    near = torch.linspace(-0.4, 0.4, 9, dtype=torch.float64)
    around = torch.cartesian_prod(near, near)
    qpos[:, 2] += envs[0].ground_height(qpos[:, :1] + around[:, 0], qpos[:, 1:2] + around[:, 1]).amax(dim=1)
    for env in envs:
        env.engine.reset(torch.arange(len(qpos)), *(part.to(env.engine.field("qpos")) for part in (qpos, qvel)))
        env._backend.move_ground()


@pytest.mark.parametrize(
    "name", ["quadruped/slopes", "quadruped/gaps", "quadruped/stairs", "quadruped/patchwork", "humanoid/steps"]
)
def test_steps_go_as_on_the_cpu_engine(name):
    sizes = measure_tumbling(world(name, sims=64))
    engines = (partial(BatchEngine, threads=1), coarse_engine, partial(warp_engine, sizes=sizes))
    cpu, twin, warp = (world(name, until_done(engine)) for engine in engines)
    assert type(warp._backend) is SpatialTorchBackend
    scatter([cpu, twin, warp])
    draw = torch.Generator().manual_seed(0)
    earned = torch.zeros(3, dtype=torch.float64)
    for k in range(STEPS):
        if k % 5 == 0:
            action = (2 * torch.rand(SIMS, cpu.num_actions, generator=draw) - 1) * 0.3
        steps = [env.step(action, restart=False) for env in (cpu, twin, warp)]
        earned += torch.stack([step.reward.double().mean() for step in steps])
        for field in ("qpos", "qvel"):
            state = twin.engine.field(field)
            state.copy_(state.float().double())
    for field, floor in FLOOR.items():
        state, near, mine = (env.engine.field(field).double() for env in (cpu, twin, warp))
        drifts = [(other - state).abs().amax(dim=1) for other in (mine, near)]
        for share in (0.5, 0.75):
            assert drifts[0].quantile(share) <= ROUNDINGS * drifts[1].quantile(share) + floor, (field, share)
    assert float(earned[2]) == pytest.approx(float(earned[0]), rel=0.03)
    assert float(earned[0]) > 1.0
    heights = cpu.ground_height(cpu.engine.field("qpos")[:, :1])
    assert heights.std() > 0.01, "the robots are not on the terrain"
    warp.check_overflow()


def test_boxes_are_those_of_the_cpu_engines():
    from policykd.envs.physics.mujoco_warp import _boxes, _boxes_in_space  # needs mujoco_warp

    draw = torch.Generator().manual_seed(0)
    pose, lane = (4 * torch.rand(*shape, generator=draw, dtype=torch.float64) - 2 for shape in ((5, 7, 3), (5, 2)))
    half = torch.rand(5, 7, 3, generator=draw, dtype=torch.float64)
    both = (
        (ground_fields(pose.numpy(), half[..., :2].numpy(), lane.numpy()), _boxes(pose, half[..., :2], lane)),
        (box_fields(pose.numpy(), pose[..., :2].numpy(), half.numpy()), _boxes_in_space(pose, pose[..., :2], half)),
    )
    for theirs, mine in both:
        for ours, name in (("geom_size", "geom_size"), ("geom_rbound", "geom_rbound"), ("geom_xpos", "geom_pos")):
            np.testing.assert_allclose(mine[ours], theirs[name], atol=1e-12)
        np.testing.assert_allclose(mine["geom_aabb"].flatten(-2), theirs["geom_aabb"], atol=1e-12)
        w, x, y, z = np.moveaxis(theirs["geom_quat"], -1, 0)
        first = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)], axis=-1)
        last = np.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], axis=-1)
        np.testing.assert_allclose(mine["geom_xmat"][..., 0], first, atol=1e-12)
        np.testing.assert_allclose(mine["geom_xmat"][..., 2], last, atol=1e-12)


def test_few_iterations_of_the_solver_earn_the_same():
    cpu, warp = world("quadruped/slopes"), world("quadruped/slopes", partial(warp_engine, sizes=ROOMY))
    scatter([cpu, warp])
    draw, earned = torch.Generator().manual_seed(0), torch.zeros(2)
    for _ in range(STEPS):
        action = (2 * torch.rand(SIMS, cpu.num_actions, generator=draw) - 1) * 0.1
        earned += torch.stack([env.step(action, restart=False).reward.mean() for env in (cpu, warp)])
    assert float(earned[1]) == pytest.approx(float(earned[0]), rel=0.03)
    assert "ITERATIONS" in warp.engine.overflow()


@pytest.mark.parametrize("name", ["quadruped/gaps", "quadruped/stairs"])
def test_the_masked_environment_runs_on_it(name):
    engine = partial(warp_engine, sizes=ROOMY)
    masks = world(name, engine, MaskedEnv, sims=8)
    masks.reset()
    draw, ends, least = torch.Generator().manual_seed(0), 0, float(masks.robot.stand_pose[2]) - 0.05
    for _ in range(40):
        step = masks.step_masked(4 * torch.rand(8, masks.num_actions, generator=draw) - 2)
        ends += int(step.ended.sum())
        assert (masks.engine.field("qpos")[step.ended, 2] > least).all(), "a new episode begins standing"
        assert torch.isfinite(step.flat).all()
    assert ends > 0
    masks.check_overflow()


def test_what_follows_from_the_state_is_a_live_view():
    env = world("quadruped/flat", partial(warp_engine, sizes=ROOMY), sims=2)
    geoms = env.engine.field("geom_xpos")
    env.reset()
    before = geoms.clone()
    env.step(torch.ones(2, 12))
    assert not torch.equal(before, geoms)
    assert "geom_xpos" in env.engine.snapshot(), "the frames of the ground boxes"
