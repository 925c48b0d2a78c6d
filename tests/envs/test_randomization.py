"""Domain randomization and readings: what varies, by how much, for whom, repeatably; and nothing at the defaults."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.masked_env import MaskedEnv
from policykd.envs.observations import GROUPS, Reading, get_group, reading_of, register_group
from policykd.envs.physics import LoopEngine
from policykd.envs.randomization import OFF, Randomization
from policykd.envs.robots import get_robot
from policykd.envs.skills import get_skill
from policykd.envs.symmetry import mirror_symmetry
from policykd.errors import ConfigError, ContractError

EVERYTHING = Randomization(
    friction=(0.4, 1.2),
    mass=(0.9, 1.3),
    stiffness=(0.8, 1.2),
    damping=(0.5, 2.0),
    push_speed=0.5,
    push_interval=0.2,
    latency=(0, 2),
    noise=(("imu", 0.05),),
)
N = 24


def env_of(randomization=OFF, *, skill="quadruped/flat", n=N, groups=None, **options):
    config = EnvConfig(tracks=4, randomization=randomization)
    return BatchedEnv([get_skill(skill, groups)], n, seed=3, config=config, **{"threads": 1, **options})


def actions_of(env, steps, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(steps, env.num_envs, env.num_actions, generator=draw) * 0.4


def field(env, name):
    return np.array(env.engine._batch.expand(name))


def test_nothing_is_drawn_at_the_defaults():
    env, other = env_of(), env_of(Randomization(push_interval=1.0, latency=(0, 0), noise=()))
    assert env._randomizer is None
    assert env._sensors is None
    assert env.engine._batch.expanded("pair_friction") is None
    assert set(env.state_dict()) == {"engine", "backend", "starts", "failures", "level"}
    a, b = env.reset(), other.reset()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_factor_of_one_changes_no_digit():
    """The machinery itself, with the model's own values written to every simulation."""
    ones = Randomization(friction=(1, 1), mass=(1, 1), stiffness=(1, 1), damping=(1, 1), latency=(0, 0))
    mine, plain = env_of(ones), env_of()
    mine.reset(), plain.reset()
    assert mine._randomizer is not None
    for action in actions_of(mine, 40):
        a, b = mine.step(action), plain.step(action)
        assert torch.equal(a.flat, b.flat)
        assert torch.equal(a.reward, b.reward)


@pytest.mark.parametrize(
    ("what", "name", "place"),
    [
        ({"friction": (0.4, 1.2)}, "pair_friction", (slice(None), slice(None), slice(0, 2))),
        ({"mass": (0.9, 1.3)}, "body_mass", (slice(None), slice(1, 2))),
        ({"mass": (0.9, 1.3)}, "body_inertia", (slice(None), 1)),
        ({"stiffness": (0.8, 1.2)}, "actuator_gainprm", (slice(None), slice(None), 0)),
        ({"stiffness": (0.8, 1.2)}, "actuator_biasprm", (slice(None), slice(None), 1)),
        ({"damping": (0.5, 2.0)}, "dof_damping", (slice(None), slice(6, None))),
    ],
)
def test_factors_reach_the_model_and_nothing_else(what, name, place):
    env, plain = env_of(Randomization(**what)), env_of()
    env.reset(), plain.reset()
    mine, nominal = field(env, name), field(plain, name)
    low, high = next(iter(what.values()))
    factors = mine[place] / nominal[place]
    assert low <= factors.min() < low + 0.3 * (high - low)
    assert high >= factors.max() > high - 0.3 * (high - low)
    rest = mine.copy()
    rest[place] = nominal[place]
    np.testing.assert_array_equal(rest, nominal)
    if name in ("actuator_gainprm", "dof_damping"):
        assert len(np.unique(factors[0])) == 12, "every joint has its own"
    elif name != "actuator_biasprm":
        first = factors.reshape(N, -1)[:, :1]
        np.testing.assert_allclose(factors.reshape(N, -1), first.repeat(factors[0].size, 1), rtol=1e-12)


def test_gain_and_bias_of_a_servo_keep_their_ratio():
    env = env_of(Randomization(stiffness=(0.5, 2.0)))
    env.reset()
    np.testing.assert_allclose(
        field(env, "actuator_gainprm")[:, :, 0], -field(env, "actuator_biasprm")[:, :, 1], rtol=1e-12
    )


def test_derived_constants_follow_the_masses():
    env = env_of(Randomization(mass=(2.0, 2.0)))
    env.reset()
    mass = field(env, "body_mass").sum(1)
    np.testing.assert_allclose(field(env, "body_subtreemass")[:, 1], mass, rtol=1e-9)
    assert mass[0] > get_robot("quadruped").body.mass + 5


def test_new_episodes_draw_again_and_running_ones_keep_theirs():
    env = env_of(Randomization(mass=(0.5, 2.0)))
    env.reset()
    before = field(env, "body_mass")[:, 1]
    env._restart(torch.tensor([2, 5]))
    after = field(env, "body_mass")[:, 1]
    changed = np.flatnonzero(before != after).tolist()
    assert changed == [2, 5]


def test_latency_shifts_actions_by_whole_steps():
    """A robot whose actions come two steps late moves like one that is told two steps later."""
    late, plain = env_of(Randomization(latency=(2, 2))), env_of()
    late.reset(), plain.reset()
    actions = actions_of(late, 10)
    standing = torch.zeros_like(actions[0])
    for t, action in enumerate(actions):
        late.step(action, restart=False)
        plain.step(actions[t - 2] if t >= 2 else standing, restart=False)
        assert torch.equal(late.engine.field("qpos"), plain.engine.field("qpos"))
    some = env_of(Randomization(latency=(0, 2)), n=200)
    some.reset()
    assert some._randomizer._delay.unique().tolist() == [0, 1, 2]


def test_the_last_action_is_the_one_that_was_sent():
    env = env_of(Randomization(latency=(3, 3)))
    env.reset()
    action = actions_of(env, 1)[0].clamp(-1, 1)
    observed = env.step(action, restart=False).observations["last_action"]
    torch.testing.assert_close(observed, action)


def test_pushes_come_at_random_and_within_bounds():
    what = Randomization(push_speed=0.3, push_interval=0.5)
    env, plain = env_of(what, n=400), env_of(n=400)
    env.reset(), plain.reset()
    before = env.engine.field("qvel").clone()
    env._randomizer.step(torch.zeros(400, 12))
    change = env.engine.field("qvel") - before
    pushed = change.abs().amax(1) > 0
    assert 0.01 < pushed.double().mean() < 0.09  # 0.02 s of 0.5 s
    assert change[:, 2:].abs().max() == 0
    assert 0.1 < change[:, :2].abs().max() <= 0.3
    planar = env_of(what, skill="biped/flat", n=400)
    planar.reset()
    before = planar.engine.field("qvel").clone()
    for _ in range(10):
        planar._randomizer.step(torch.zeros(400, 11))
    change = planar.engine.field("qvel") - before
    assert change[:, 0].abs().max() > 0
    assert change[:, 1:].abs().max() == 0


def test_friction_is_felt():
    """On ice the feet slip: the same actions move the robot elsewhere."""
    ice, plain = env_of(Randomization(friction=(0.05, 0.05))), env_of()
    ice.reset(), plain.reset()
    for action in actions_of(ice, 30):
        ice.step(action, restart=False), plain.step(action, restart=False)
    away = (ice.engine.field("qpos") - plain.engine.field("qpos"))[:, :2].norm(dim=1)
    assert away.median() > 0.01


def test_equal_seeds_repeat_everything_and_an_interrupted_run_continues():
    one, two = env_of(EVERYTHING, threads=1), env_of(EVERYTHING, threads=2)
    one.reset(), two.reset()
    actions = actions_of(one, 60)
    for action in actions[:30]:
        a, b = one.step(action), two.step(action)
        assert torch.equal(a.flat, b.flat)
    resumed = env_of(EVERYTHING)
    resumed.reset()
    resumed.load_state_dict(one.state_dict())
    ended = 0
    for action in actions[30:]:
        a, b = one.step(action), resumed.step(action)
        assert torch.equal(a.flat, b.flat)
        assert torch.equal(a.reward, b.reward)
        ended += len(a.episodes.ids)
    assert ended > 0
    other = BatchedEnv([one.skill], N, seed=4, config=one.config, threads=1)
    other.reset()
    assert not np.array_equal(field(other, "body_mass"), field(one, "body_mass"))


def test_tracks_and_initial_states_do_not_depend_on_it():
    mine, plain = env_of(replace(EVERYTHING, noise=())), env_of()
    a, b = mine.reset(), plain.reset()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_robots_with_a_ground_of_their_own_vary_too():
    env = env_of(replace(EVERYTHING, noise=(("velocities", 0.1),)), skill="ant/flat")
    env.reset()
    for action in actions_of(env, 5):
        assert torch.isfinite(env.step(action).flat).all()
    friction = field(env, "geom_friction")
    assert len(np.unique(friction[:, 1, 0])) == N


READ = reading_of(get_group("imu"), "imu_read", noise=0.2, scale=2.0, clip=1.5, history=3)


@pytest.fixture
def groups():
    with GROUPS.scope():
        register_group(READ)
        yield ("imu", "imu_read", "joints", "last_action")


def test_a_reading_leaves_the_clean_group_alone(groups):
    env, plain = env_of(groups=groups), env_of()
    assert env.skill.group_sizes == {"imu": 6, "imu_read": 18, "joints": 24, "last_action": 12}
    a, b = env.reset(), plain.reset()
    past = [a["imu_read"][:, :6]] * 3
    assert all(torch.equal(a["imu_read"][:, 6 * i : 6 * i + 6], past[0]) for i in range(3)), "copies of the first one"
    for action in actions_of(env, 20):
        a, b = env.step(action, restart=False), plain.step(action, restart=False)
        clean, read = a.observations["imu"], a.observations["imu_read"]
        assert torch.equal(clean, b.observations["imu"])
        assert torch.equal(a.reward, b.reward)
        newest = read[:, :6]
        assert read.abs().max() <= 1.5
        inside = newest.abs() < 1.5
        error = (newest / 2.0 - clean)[inside]
        assert error.abs().max() <= 0.2 + 1e-6
        assert error.std() > 0.08  # of a uniform distribution with this half width: 0.115
        assert torch.equal(read[:, 6:], torch.cat(past[:2], dim=1)), "the earlier readings, newest first"
        past = [newest, *past[:2]]


def test_the_history_of_a_new_episode_begins_with_its_first_reading(groups):
    env = env_of(groups=groups)
    env.reset()
    ended = False
    for action in actions_of(env, 200) * 3:
        step = env.step(action)
        for row, i in enumerate(step.episodes.ids.tolist()):
            read, last = step.observations["imu_read"][i], step.final_observations["imu_read"][row]
            assert torch.equal(read[:6], read[6:12])
            assert not torch.equal(last[:6], last[6:12])
            ended = True
        if ended:
            break
    assert ended


def test_noise_may_be_added_to_any_group_without_a_new_one():
    env, plain = env_of(Randomization(noise=(("joints", 0.3),))), env_of()
    a, b = env.reset(), plain.reset()
    error = a["joints"] - b["joints"]
    assert 0.2 < error.abs().max() <= 0.3 + 1e-6
    assert torch.equal(a["imu"], b["imu"])
    with pytest.raises(ConfigError, match="noise on jionts"):
        env_of(Randomization(noise=(("jionts", 0.3),)))


def test_a_reading_has_the_mirror_image_of_its_group(groups):
    symmetry = mirror_symmetry(groups, get_robot("quadruped"))
    clean = get_group("imu").mirrored(get_robot("quadruped"))
    read = get_group("imu_read").mirrored(get_robot("quadruped"))
    assert read.signs == clean.signs * 3
    assert read.order == [i + 6 * block for block in range(3) for i in clean.order]
    assert len(symmetry.features) == 60


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"friction": (1.2, 0.4)}, "randomization.friction"),
        ({"mass": (0.0, 1.0)}, "randomization.mass"),
        ({"latency": (3, 1)}, "randomization.latency"),
        ({"push_speed": -1.0}, "randomization.push_speed"),
        ({"push_interval": 0.0}, "randomization.push_interval"),
        ({"noise": (("imu", -1.0),)}, "randomization.noise of imu"),
    ],
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        Randomization(**settings)


def test_readings_out_of_range_are_refused():
    for settings in ({"history": 0}, {"noise": -1.0}, {"scale": 0.0}, {"clip": 0.0}):
        with pytest.raises(ConfigError, match="imu"):
            Reading("imu", **settings)
    with pytest.raises(ConfigError, match="is a reading itself"):
        reading_of(READ, "again")


def test_other_engines_refuse_it():
    with pytest.raises(ContractError, match="random physics"):
        env_of(Randomization(mass=(0.9, 1.1)), make_engine=LoopEngine)
    with pytest.raises(ContractError, match="noise and history"):
        MaskedEnv(
            [get_skill("biped/flat")], 2, starts=4, make_engine=LoopEngine,
            config=EnvConfig(tracks=2, randomization=Randomization(noise=(("proprio", 0.1),))),
        )  # fmt: skip
