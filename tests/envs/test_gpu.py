"""On a CUDA device: the captured graph does what plain launches do, and no step waits for the device."""

import pytest
import torch
from warp_worlds import EACH_ITS_OWN, SIMS, scatter, warped
from worlds import batched, random_actions

from policykd.agents.policy import Policy
from policykd.envs.devices import missing_for_cuda
from policykd.envs.masked_env import MaskedEnv
from policykd.envs.skills import get_skill

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(missing_for_cuda()), reason="; ".join(missing_for_cuda()))]


def test_the_device_goes_as_warps_cpu_device_does():
    here, there = warped("steps", seed=3), batched("steps", SIMS, config=EACH_ITS_OWN, seed=3, device="cuda")
    states = []
    for env in (here, there):
        scatter([env])
        for action in random_actions(6, SIMS, scale=0.3, seed=1):
            env.step(action.to(env.device), restart=False)
        states.append(env.engine.field("qpos").cpu())
    assert (states[0] - states[1]).abs().amax(dim=1).quantile(0.75) < 1e-4


@pytest.mark.parametrize("names", [["steps"], ["steps+imitate"], ["flat+backwards", "flat+crouch", "flat+hop"]])
def test_no_step_waits_for_the_device(names):
    skills = [get_skill(f"biped/{name}", ("proprio", "phase", "command")) for name in names]
    env = MaskedEnv(skills, 64, config=EACH_ITS_OWN, device="cuda")
    policy = Policy(env.skill.group_sizes, env.num_actions).to(env.device)
    flat = torch.cat(list(env.reset().values()), dim=1)
    with torch.no_grad():
        flat = env.step_masked(policy(flat)).flat
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(20):
                flat = env.step_masked(policy(flat)).flat
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert flat.isfinite().all()
    env.engine.check_overflow()
