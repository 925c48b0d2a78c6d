"""Worlds on Warp's CPU device, beside those of the CPU engine."""

from functools import partial

import torch
from worlds import batched

from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.physics import BatchEngine
from policykd.envs.physics.contact_budget import measure_contacts
from policykd.envs.skills import get_skill

SIMS = 64
EACH_ITS_OWN = EnvConfig(tracks=SIMS, ordered=True)


def warp_engine(model, num_sims, boxes, decimation, *, sizes, device="cpu", worlds=None):
    from policykd.envs.physics.mujoco_warp import WarpEngine

    return WarpEngine(model, num_sims, boxes, decimation, sizes=sizes, device=device, worlds=worlds)


def sizes_for(env):
    """Room for contacts on the tracks of an environment."""
    return measure_contacts(env.engine._batch.model, env.robot, env._bank.tracks, env._boxes, env.robot.window_width)


def warped(name, num_envs=SIMS, config=EACH_ITS_OWN, sizes=None, **options):
    sizes = sizes or sizes_for(batched(name, 1, config=config, seed=options.get("seed", 0)))
    return beside(name, partial(warp_engine, sizes=sizes), num_envs, config, **options)


def beside(name, engine, num_envs=SIMS, config=EACH_ITS_OWN, **options):
    """An environment on an engine of one's own."""
    return BatchedEnv([get_skill(f"biped/{name}")], num_envs, config=config, make_engine=engine, **options)


def coarse_engine(model, num_sims, boxes, decimation):
    """The CPU engine with the solver's tolerance of mujoco_warp."""
    model.opt.tolerance = 1e-6
    return BatchEngine(model, num_sims, boxes, decimation, threads=1)


def scatter(envs, seed=1):
    """Stand the robots of environments on the same random places of their tracks, clear of walls and edges."""
    draw = torch.Generator().manual_seed(seed)
    for env in envs:
        env.reset()
    first = envs[0]
    qpos, qvel = (first.engine.field(name).double().cpu() for name in ("qpos", "qvel"))
    qpos = qpos.clone()
    qpos[:, 0] = 1 + 25 * torch.rand(len(qpos), generator=draw, dtype=torch.float64)
    near = torch.linspace(-0.6, 0.6, 121, dtype=torch.float64)
    qpos[:, 1] += first.ground_height((qpos[:, :1] + near).to(first.device)).amax(dim=1).cpu()
    for env in envs:
        ids = torch.arange(len(qpos), device=env.device)
        env.engine.reset(ids, *(state.to(env.engine.field("qpos")) for state in (qpos, qvel)))
        env._backend.move_ground()
