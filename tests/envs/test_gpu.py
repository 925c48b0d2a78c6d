"""On a CUDA device: graphs do what plain calls do, whole iterations wait only for the divergence, worlds fail alone.

The yardstick of how far two machines drift apart is that of ``test_mujoco_warp``: a twin of the CPU engine that rounds
its state to float32 after every step.
"""

import sys
from pathlib import Path

import pytest
import torch
from warp_worlds import EACH_ITS_OWN, SIMS, beside, coarse_engine, scatter, warped
from worlds import batched, random_actions

from policykd.agents.episodes import run_episodes
from policykd.agents.policy import Policy
from policykd.agents.training.config import PpoConfig, TrainConfig
from policykd.agents.training.device_ppo import DevicePpo
from policykd.agents.training.warm_up import warm_up_normalizer
from policykd.curriculum import preset, run_curriculum
from policykd.envs.batched_env import BatchedEnv
from policykd.envs.devices import missing_for_cuda
from policykd.envs.env_records import EnvConfig
from policykd.envs.make import make_env
from policykd.envs.masked_env import MaskedEnv
from policykd.envs.skills import get_skill

sys.path.insert(0, str(Path(__file__).parents[1] / "curriculum"))
from tiny_curriculum import TINY

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(missing_for_cuda()), reason="; ".join(missing_for_cuda()))]
ROUNDINGS, FLOOR = 10.0, 1e-5
IN_SPACE = ("imu", "base_velocity", "joints", "last_action", "command")
GAITS = ("proprio", "phase", "command")
WORLDS = [
    (["biped/steps"], GAITS),
    (["biped/steps+imitate"], GAITS),
    (["biped/flat+backwards", "biped/flat+crouch", "biped/flat+hop"], GAITS),
    (["quadruped/gaps"], IN_SPACE),
    (["quadruped/flat", "quadruped/flat+reverse"], IN_SPACE),
    (["quadruped/stairs"], IN_SPACE),
    (["humanoid/flat"], IN_SPACE),
]
NAMES = ["-".join(names).replace("/", "_") for names, _ in WORLDS]


@pytest.fixture
def no_waits():
    """A context in which a wait is an error."""
    from contextlib import contextmanager

    @contextmanager
    def watching():
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return watching


def learner_of(names, groups, sims=64, record=None):
    skills = [get_skill(name, groups) for name in names]
    env = MaskedEnv(skills, sims, config=EnvConfig(tracks=sims, graded=True), device="cuda")
    policy = Policy(env.skill.group_sizes, env.num_actions, generator_seed=0).to(env.device)
    config = PpoConfig(envs=sims, rollout_steps=8, minibatch=sims * 2, epochs=2)
    ppo = DevicePpo(policy, env, config, seed=0, record=record)
    torch.manual_seed(0)
    warm_up_normalizer(policy, env, steps=4)
    return env, policy, ppo


def test_the_device_goes_as_warps_cpu_device_does():
    cpu, twin = batched("steps", SIMS, config=EACH_ITS_OWN, seed=3, threads=1), beside("steps", coarse_engine, seed=3)
    here, there = warped("steps", seed=3), batched("steps", SIMS, config=EACH_ITS_OWN, seed=3, device="cuda")
    envs = (cpu, twin, here, there)
    for env in envs:
        scatter([env])
    for action in random_actions(6, SIMS, scale=0.3, seed=1):
        for env in envs:
            env.step(action.to(env.device), restart=False)
        state = twin.engine.field("qpos")
        state.copy_(state.float().double())
    states = [env.engine.field("qpos").double().cpu() for env in envs]
    apart, yardstick = ((a - b).abs().amax(dim=1) for a, b in ((states[2], states[3]), (states[0], states[1])))
    for share in (0.5, 0.75):
        assert apart.quantile(share) <= ROUNDINGS * yardstick.quantile(share) + FLOOR


@pytest.mark.parametrize(("names", "groups"), WORLDS, ids=NAMES)
def test_nothing_waits_but_for_the_divergence(names, groups, no_waits):
    env, _, ppo = learner_of(names, groups)
    for _ in range(3):  # called, called, recorded
        rollout = ppo.collect()
        ppo.update(rollout, 1e-3)
        ppo.prepare_next(rollout, 0.5)
    with no_waits():
        for _ in range(2):
            rollout = ppo.collect()
            ppo.prepare_next(rollout, 0.5)
    with no_waits(), pytest.raises(RuntimeError, match="synchroniz"):
        ppo.update(rollout, 1e-3)
    actions = torch.zeros(env.num_envs, env.num_actions, device=env.device)
    with no_waits():
        for _ in range(20):
            step = env.step_masked(actions)
    assert step.flat.isfinite().all()
    env.engine.check_overflow()


@pytest.mark.parametrize(("names", "groups"), WORLDS, ids=NAMES)
def test_a_graph_does_what_plain_calls_do(names, groups):
    """One iteration from equal states; physics differs in the last bits from run to run, so means are compared."""
    found = []
    for recorded in (False, True):
        env, _, ppo = learner_of(names, groups)
        for _ in range(3):
            ppo.update(ppo.collect(), 1e-4)
        if not recorded:
            for part in (ppo._act, ppo._store, ppo._estimate, ppo._learn):
                part._replay = part._work
        env.seed(5)
        ppo.seed(5)
        env.draw_starts()
        found.append((ppo.collect(), ppo.update(ppo._rollout, 1e-4)))
    (plain, one), (replayed, other) = found
    assert other == pytest.approx(one, rel=0.5)
    assert replayed.rewards.isfinite().all()
    assert float(replayed.rewards.mean()) == pytest.approx(float(plain.rewards.mean()), rel=0.05, abs=1e-3)


def test_evaluation_equals_that_of_lists():
    """Steps with masks, recorded, and steps with lists from the same states."""
    skill = get_skill("biped/steps", GAITS)
    policy = Policy(skill.group_sizes, skill.robot.num_actions, generator_seed=0).to("cuda")
    config, outcomes = EnvConfig(tracks=64, ordered=True), []
    for make in (make_env, BatchedEnv):
        env = make([skill], 64, seed=1, config=config, device="cuda")
        env.seed(2)
        outcomes.append(run_episodes(policy, env))
    assert float(outcomes[0].reward_per_step.mean()) == pytest.approx(
        float(outcomes[1].reward_per_step.mean()), rel=0.03
    )
    assert outcomes[0].length.float().mean() == pytest.approx(float(outcomes[1].length.float().mean()), rel=0.05)


def test_a_curriculum_runs_there(tmp_path):
    recipe = TINY.on_device("cuda")
    steps = recipe.train.ppo.envs * recipe.train.ppo.rollout_steps
    result = run_curriculum(recipe, tmp_path / "run", seed=1)
    assert result.steps >= steps
    assert (tmp_path / "run" / "policy").exists()


def test_presets_choose_settings_that_fit():
    assert preset("quick").on_device("cuda").train.ppo.envs >= 1024
    assert TrainConfig().ppo.envs < 1024
