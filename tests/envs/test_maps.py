"""Maps: one ground for heights, boxes, scans and falls; drawn by seed and difficulty; compiled loops equal torch."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest
import torch
from test_spatial import reflected

from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.observations import get_group
from policykd.envs.observations.spatial import AREA_AHEAD, AREA_ASIDE
from policykd.envs.physics import LoopEngine
from policykd.envs.physics.ground_boxes import box_fields
from policykd.envs.physics.protocol import FIELDS
from policykd.envs.rendering import GROUND_MESH, build_scene
from policykd.envs.robots import get_robot
from policykd.envs.robots.ground_pool import add_ground
from policykd.envs.skills import get_skill
from policykd.envs.stepping import ground_kernels, spatial_kernels
from policykd.envs.stepping.ground_kernels import ground_table, write_heights
from policykd.envs.stepping.spatial_torch import SpatialTorchBackend
from policykd.envs.symmetry import mirror_symmetry
from policykd.envs.terrains import TERRAINS, Map, MapBank, Terrain, map_bank
from policykd.envs.terrains.grounds.stones import Stones
from policykd.envs.terrains.map_bank import Window
from policykd.envs.terrains.map_kernels import place_window
from policykd.errors import ContractError

ROBOT = get_robot("quadruped")
MAPS = [name for name, kind in TERRAINS.items() if kind.varies_across]
AS_MAPS = ["flat", "gaps", "slopes", "steps:hard"]
"""Tracks, which become maps of strips in an environment with maps."""
CONFIG = EnvConfig(tracks=8)
WHOLE = Window(1.0, 1.0, 1e4, 1.0)
"""A window that holds a whole map."""


def bank_of(name, maps=8, seed=0, difficulty=1.0, **options):
    sizes = {"leg": ROBOT.leg_length, "reach": ROBOT.reach, "seconds": 10.0}
    return MapBank([Terrain(*name.split(":"), difficulty=difficulty)], maps, seed, **sizes, **options)


def ground_model(bank, row):
    """A model of a whole map, without a robot."""
    maps = bank.tracks.rows(torch.tensor([row]))
    spec = mujoco.MjSpec()
    add_ground(spec, 1 + int(maps.used[row]), 1.0)
    model = spec.compile()
    parts = maps.boxes_around(torch.zeros(1, 2, dtype=torch.float64), WHOLE, model.ngeom)
    for name, value in box_fields(*(part.numpy() for part in parts)).items():
        getattr(model, name)[:] = value[0]
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    return model, data


def places_on(bank, row, count, seed):
    """Random places everywhere on a map, half of them near its boxes' edges."""
    rng, leg = np.random.default_rng(seed), ROBOT.leg_length
    boxes = bank.tracks.boxes[row, : max(1, int(bank.tracks.used[row]))].numpy()
    end = boxes[:, 0].max() + 2.0
    x, y = rng.uniform(-2.0, end, count), rng.uniform(-4.5 * leg, 4.5 * leg, count)
    box = boxes[rng.integers(len(boxes), size=count // 2)]
    side, way = rng.uniform(-1, 1, (2, count // 2)), rng.random(count // 2) < 0.5
    along, across = np.where(way, np.sign(side[0]), side[0]), np.where(way, side[1], np.sign(side[1]))
    along, across = along * box[:, 3] * box[:, 8], across * box[:, 4]
    off = rng.normal(0, 1e-4, (2, count // 2))  # exactly on an edge, rounding decides between two heights
    along, across = along + off[0], across + off[1]
    x[: count // 2] = box[:, 0] + box[:, 6] * along - box[:, 7] * across
    y[: count // 2] = box[:, 1] + box[:, 7] * along + box[:, 6] * across
    return x, y


def test_every_terrain_is_among_the_tested_ones():
    assert {"stairs", "pyramids", "rough", "waves", "obstacles", "stones", "beams", "ditches", "barriers"} < set(MAPS)


@pytest.mark.parametrize("name", [*MAPS, *AS_MAPS])
def test_the_height_function_equals_a_ray_at_ten_thousand_places(name):
    bank, group, hit = bank_of(name, maps=4, seed=5), np.ones(6, np.uint8), np.zeros(1, np.int32)
    table = ground_table(bank.tracks, np.arange(4), *[np.zeros((1, 2))] * 2)
    heights = set()
    for row in range(4):
        model, data = ground_model(bank, row)
        x, y = places_on(bank, row, 2500, row)
        tops = [
            9.0 - mujoco.mj_ray(model, data, [a, b, 9.0], [0.0, 0.0, -1.0], group, 1, -1, hit)
            for a, b in zip(x, y, strict=True)
        ]
        places = (torch.from_numpy(part)[None] for part in (x, y))
        height = bank.tracks.rows(torch.tensor([row])).height(*places)[0].numpy()
        np.testing.assert_allclose(height, tops, rtol=0, atol=1e-6)
        compiled = np.empty(len(x))
        write_heights(table, row, 0, np.stack([x, y], axis=1), compiled)
        np.testing.assert_allclose(height, compiled, rtol=0, atol=1e-12)
        heights |= set(np.round(tops, 6))
    assert len(heights) > (1 if name == "flat" else 2) - 1


@pytest.mark.parametrize("name", MAPS)
def test_windows_of_many_robots_are_those_of_each(name):
    bank = bank_of(name, maps=4, seed=7)
    maps, window, pool, draw = bank.tracks, bank.window, bank.pool(), np.random.default_rng(0)
    row = torch.from_numpy(draw.integers(0, 4, 200))
    place = window.snap(torch.from_numpy(draw.uniform([-2.0, -1.0], [12.0, 1.0], (200, 2))))
    center, turn, half = maps.rows(row).boxes_around(place, window, pool)
    for i in range(200):
        own = np.empty((pool, 3)), np.empty((pool, 2)), np.empty((pool, 3))
        k, (x, y) = int(row[i]), place[i].tolist()
        boxes, used, floor = maps.boxes[k].numpy(), int(maps.used[k]), float(maps.floor[k])
        place_window(boxes, used, floor, x, y, window.half, window.thickness, *own)
        for mine, theirs in zip((center, turn, half), own, strict=True):
            np.testing.assert_allclose(mine[i].numpy(), theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", MAPS)
def test_the_boxes_under_a_robot_are_the_ground_wherever_it_is(name):
    """Rays meet the boxes in the window, which are cut, where the height function says, all around the feet."""
    env = BatchedEnv([get_skill(f"quadruped/{name}")], 2, config=CONFIG, threads=1, make_engine=LoopEngine)
    env.reset()
    model, data = env.engine._models[1], env.engine._data[1]
    rng, group, geom = np.random.default_rng(0), np.ones(6, np.uint8), np.zeros(1, np.int32)
    model.geom_group[env._boxes :] = 1
    group[1] = 0  # rays pass through the robot
    for x in np.linspace(0.0, 9.0, 12):
        base = np.array([x, rng.uniform(-0.5, 0.5)])
        for one in env.engine._data:
            one.qpos[:2] = base
        for i in range(2):
            env.engine._copy_out(i)
        env._backend.move_ground()
        mujoco.mj_kinematics(model, data)
        places = base + rng.uniform(-1, 1, (60, 2)) * env.robot.reach
        on = (torch.from_numpy(part.copy()).repeat(2, 1) for part in places.T)
        for place, height in zip(places, env.ground_height(*on)[1].tolist(), strict=True):
            distance = mujoco.mj_ray(model, data, [*place, 9.0], [0.0, 0.0, -1.0], group, 1, -1, geom)
            assert 9.0 - distance == pytest.approx(height, abs=1e-6)


@pytest.mark.parametrize("name", MAPS)
def test_boundings_spheres_hold_their_boxes(name):
    bank = bank_of(name)
    place = torch.rand(8, 2, dtype=torch.float64) * torch.tensor([8.0, 1.0])
    center, turn, half = (part.numpy() for part in bank.tracks.boxes_around(place, bank.window, bank.pool()))
    fields = box_fields(center, turn, half)
    np.testing.assert_allclose(fields["geom_rbound"], np.linalg.norm(half, axis=2))
    real = center[:, :, 2] > -100
    assert (half[real][:, :2].max(axis=1) <= 2 * bank.window.half / np.cos(0.6)).all(), "boxes are cut to the window"


@pytest.mark.parametrize("name", MAPS)
def test_maps_are_drawn_by_seed_begin_level_and_are_flat_at_difficulty_zero(name):
    leg = ROBOT.leg_length
    a, again, other, easy = (bank_of(name, seed=s, difficulty=d) for s, d in ((3, 1), (3, 1), (4, 1), (3, 0)))
    assert torch.equal(a.tracks.boxes, again.tracks.boxes)
    x = torch.linspace(2.0, 12.0, 300, dtype=torch.float64).expand(8, -1)
    y = torch.sin(40 * x)
    assert (a.tracks.height(x, y) != other.tracks.height(x, y)).any(dim=1).all()
    assert len({tuple(row.tolist()) for row in a.tracks.height(x, y)}) == 8, "maps of one bank repeat"
    grid = torch.meshgrid(torch.linspace(-5, 1.2, 40), torch.linspace(-3.9, 3.9, 40), indexing="ij")
    places = [(part.reshape(1, -1) * leg).double().expand(8, -1) for part in grid]
    assert a.tracks.height(*places).abs().max() < 1e-12, "robots start on level ground"
    everywhere = [torch.rand(8, 3000, dtype=torch.float64) * width - off for width, off in ((14.0, 1.0), (2.0, 1.0))]
    torch.testing.assert_close(easy.tracks.height(*everywhere), torch.zeros(8, 3000).double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", MAPS)
def test_features_grow_with_difficulty(name):
    """Heights between the lowest and the highest hundredth, or the share of ground that is a pit."""

    def size(difficulty):
        height = bank_of(name, maps=16, seed=1, difficulty=difficulty).tracks.height(*everywhere)
        deep = TERRAINS[name].presets["default"].__dict__.get("depth") if name != "patchwork" else None
        if deep is None:
            return (height.quantile(0.98) - height.quantile(0.02)).item()
        return (height < -0.2).double().mean().item()

    draw = torch.Generator().manual_seed(0)
    everywhere = [torch.rand(16, 1000, generator=draw).double() * w - off for w, off in ((10.0, -0.5), (1.6, 0.8))]
    sizes = [size(difficulty) for difficulty in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert sizes == sorted(sizes)
    assert sizes[-1] > sizes[2] > sizes[0]


def test_stairs_are_ten_to_fifteen_centimeters_high_for_the_quadruped():
    bank = bank_of("stairs", maps=24)
    x = torch.arange(0.5, 12.0, 0.004, dtype=torch.float64).expand(24, -1)
    steps = bank.tracks.height(x).diff(dim=1).abs()
    steps = steps[steps > 1e-6]
    assert steps.min() >= 0.10
    assert steps.max() <= 0.15 + 1e-6
    assert (steps.max() - steps.min()) > 0.03


class TorchEnv(BatchedEnv):
    """The environment with the backend in torch."""

    def _make_backend(self, tracks, tasks):
        fixed = self.config.ordered
        return SpatialTorchBackend(self.engine, self.skill, tracks, self._boxes, tasks, fixed_commands=fixed)


def actions_of(steps, n, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(steps, n, ROBOT.num_actions, generator=draw) * 0.4


def put_on_the_ground(env, x, y=0.2):
    """Put robots at places of their maps, a little above the highest ground under them."""
    qpos, qvel = (env.engine.field(name).clone() for name in ("qpos", "qvel"))
    qpos[:, 0], qpos[:, 1] = x, y
    near = [off.reshape(1, -1) for off in torch.meshgrid(*[torch.linspace(-0.3, 0.3, 13).double()] * 2, indexing="ij")]
    qpos[:, 2] += env.ground_height(qpos[:, :1] + near[0], qpos[:, 1:2] + near[1]).amax(dim=1)
    env.engine.reset(torch.arange(env.num_envs), qpos, qvel)
    env._backend.move_ground()


@pytest.mark.parametrize("name", MAPS)
def test_compiled_loops_equal_torch(name):
    groups = ("imu", "joints", "scan", "area")
    if name in ("stones", "patchwork"):
        groups = ("imu", "joints", "area")
    skills = [get_skill(f"quadruped/{name}", groups)]
    mine, oracle = (kind(skills, 6, seed=3, config=CONFIG, threads=1) for kind in (BatchedEnv, TorchEnv))
    assert type(mine._backend) is not type(oracle._backend)
    mine.reset(), oracle.reset()
    x = torch.linspace(0.5, 8.0, 6, dtype=torch.float64)
    put_on_the_ground(mine, x), put_on_the_ground(oracle, x)
    ended, heights = 0, set()
    for action in actions_of(40, 6):
        a, b = mine.step(action), oracle.step(action)
        torch.testing.assert_close(a.flat, b.flat, rtol=0, atol=2e-5)
        torch.testing.assert_close(a.reward, b.reward, rtol=0, atol=1e-6)
        assert torch.equal(a.terminated, b.terminated)
        ended += len(a.episodes.ids)
        heights |= {round(h, 3) for h in (a.observations["area"].amax(1) - a.observations["area"].amin(1)).tolist()}
    assert ended > 0
    assert len(heights) > 1, "the robots must see some ground"


def test_one_robot_runs_the_loops_that_were_compiled_for_several():
    """Its arrays are contiguous, theirs are not: compiling both would take twice as long."""
    found = []
    for n in (3, 1):
        env = BatchedEnv([get_skill("quadruped/stairs")], n, config=CONFIG, threads=1)
        env.reset()
        env.step(torch.zeros(n, ROBOT.num_actions))
        loops = (spatial_kernels.pass_over, spatial_kernels.act, ground_kernels.move_map_windows)
        found.append([list(loop.dispatcher.signatures) for loop in loops])
    assert found[0] == found[1]


@pytest.mark.parametrize("robot", ["quadruped", "humanoid"])
def test_the_area_is_scanned_in_the_heading_frame(robot):
    env = BatchedEnv([get_skill(f"{robot}/obstacles")], 3, config=CONFIG, threads=1)
    env.reset()
    qpos = env.engine.field("qpos").clone()
    heading = torch.tensor([0.3, -1.0, 2.5], dtype=torch.float64)
    qpos[:, 3:7] = torch.stack([torch.cos(heading / 2), *[0 * heading] * 2, torch.sin(heading / 2)], dim=1)
    qpos[:, 0] = torch.tensor([3.0, 4.0, 5.0])
    env.engine.reset(torch.arange(3), qpos, 0 * env.engine.field("qvel"))
    flat = env._backend.observe(env._backend.read_state(), env._backend.clock)
    seen = flat[:, env.skill.columns["area"]].double().unflatten(1, (len(AREA_AHEAD), len(AREA_ASIDE)))
    leg = env.robot.leg_length
    for i, h in enumerate(heading.tolist()):
        for row, ahead in enumerate(AREA_AHEAD * leg):
            for column, left in enumerate(AREA_ASIDE * leg):
                x = qpos[i, 0] + np.cos(h) * ahead - np.sin(h) * left
                y = qpos[i, 1] + np.sin(h) * ahead + np.cos(h) * left
                place = (torch.full((3, 1), float(part), dtype=torch.float64) for part in (x, y))
                expected = env.ground_height(*place)[i, 0] - qpos[i, 2]
                assert seen[i, row, column] == pytest.approx(float(expected), abs=1e-6)
    assert seen.std() > 0.01


@pytest.mark.parametrize("name", ["obstacles", "stones", "pyramids", "ditches"])
def test_observation_reward_and_motion_are_mirrored_on_the_mirrored_map(name, monkeypatch):
    skill = get_skill(f"quadruped/{name}")
    symmetry = mirror_symmetry(skill.groups, skill.robot)
    features, signs = list(symmetry.features), torch.tensor(symmetry.feature_signs)
    swap, turn = list(symmetry.actions), torch.tensor(symmetry.action_signs)
    env = BatchedEnv([skill], 4, seed=1, config=CONFIG, threads=1)
    plain = map_bank._boxes_of

    def reflected_boxes(ground):
        boxes, used, floor = plain(ground)
        boxes[:, :, [1, 7]] *= -1.0
        return boxes, used, floor

    monkeypatch.setattr(map_bank, "_boxes_of", reflected_boxes)
    image = BatchedEnv([skill], 4, seed=1, config=CONFIG, threads=1)
    env.reset(), image.reset()
    image._backend._command.copy_(env._backend._command * torch.tensor([1.0, -1.0, -1.0]))
    put_on_the_ground(env, torch.tensor([0.9, 2.0, 3.0, 4.0]).double(), 0.1003)
    mine = (env.engine.field(part).clone() for part in ("qpos", "qvel"))
    image.engine.reset(torch.arange(4), *reflected(skill.robot.body, *mine))
    image._backend.move_ground()
    for action in actions_of(8, 4):
        a, b = env.step(action, restart=False), image.step(action[:, swap] * turn, restart=False)
        torch.testing.assert_close(a.flat[:, features] * signs, b.flat, rtol=0, atol=1e-5)
        torch.testing.assert_close(a.reward, b.reward, rtol=0, atol=1e-6)
    final = reflected(skill.robot.body, env.engine.field("qpos"), env.engine.field("qvel"))
    torch.testing.assert_close(final[0], image.engine.field("qpos"), rtol=0, atol=1e-9)
    area = a.flat[:, skill.columns["area"]].unflatten(1, (len(AREA_AHEAD), len(AREA_ASIDE)))
    assert (area - area.flip(2)).abs().max() > 0.01, "a ground that is its own mirror image would show nothing"


@pytest.mark.parametrize("name", ["stones", "waves"])
def test_threads_do_not_change_trajectories(name):
    envs = [BatchedEnv([get_skill(f"quadruped/{name}")], 5, config=CONFIG, threads=k) for k in (1, 2)]
    for env in envs:
        env.reset()
        put_on_the_ground(env, torch.linspace(1.0, 5.0, 5).double())
    for action in actions_of(40, 5):
        a, b = (env.step(action) for env in envs)
        assert torch.equal(a.flat, b.flat)
        assert torch.equal(a.reward, b.reward)


def test_state_dict_continues_bit_for_bit():
    env, other = (BatchedEnv([get_skill("quadruped/stairs")], 4, config=CONFIG, threads=1) for _ in range(2))
    env.reset(stagger=True)
    actions = actions_of(40, 4)
    for action in actions[:20]:
        env.step(action)
    other.load_state_dict(env.state_dict())
    for action in actions[20:]:
        a, b = env.step(action), other.step(action)
        assert torch.equal(a.flat, b.flat)
        assert torch.equal(a.reward, b.reward)


def test_the_reference_engine_moves_alike():
    skill, x = get_skill("quadruped/obstacles"), torch.tensor([2.0, 3.0]).double()
    envs = [BatchedEnv([skill], 2, config=CONFIG, **kind) for kind in ({"threads": 1}, {"make_engine": LoopEngine})]
    for env in envs:
        env.reset()
        put_on_the_ground(env, x)
    for action in actions_of(20, 2):
        for env in envs:
            env.step(action, restart=False)
    assert all(torch.equal(envs[0].engine.field(n), envs[1].engine.field(n)) for n in FIELDS)


def test_one_environment_has_tracks_and_maps():
    skills = [get_skill(f"quadruped/{name}", ("imu", "area")) for name in ("gaps", "stairs")]
    env = BatchedEnv(skills, 4, config=CONFIG, threads=1)
    env.reset()
    x = torch.linspace(0, 8, 400, dtype=torch.float64).expand(4, -1)
    lowest = env.ground_height(x).amin(dim=1)
    assert -0.90 <= lowest[0] / ROBOT.ground_scale <= -0.85, "depth of the gaps"
    assert -0.6 < lowest[1] <= 0.0


def test_grounds_that_planar_robots_cannot_walk_on_and_coarse_scanners_are_refused():
    planar, fine = get_skill("biped/flat"), get_skill("quadruped/flat", ("area",))
    stairs, small = Terrain("stairs"), Terrain("stones", generator=Stones(size=0.3))
    with pytest.raises(ContractError, match=r"stairs varies across.*biped moves in a plane; use one of flat"):
        replace(planar, terrain=stairs)
    with pytest.raises(ContractError, match=r"quadruped/stones: .*area are 0.15 leg lengths.* is 0.3; .*twice"):
        replace(fine, terrain=small)
    assert get_skill("quadruped/stones", ("imu",)).groups == ("imu",), "policies without a scanner do not matter"
    assert get_group("area").spacing == pytest.approx(np.diff(AREA_AHEAD).max())
    assert get_group("area").spacing == pytest.approx(np.diff(AREA_ASIDE).max())


def test_a_picture_shows_every_box_of_a_map():
    env = BatchedEnv([get_skill("quadruped/stairs")], 1, config=CONFIG, threads=1)
    env.reset()
    model = build_scene(ROBOT, env.track(0))
    boxes = [i for i in range(model.ngeom) if model.geom(i).name.startswith(GROUND_MESH)]
    row = env.track(0)
    assert len(boxes) == int(row.used[row.row]) + 1, "and the floor"
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    group, hit = np.zeros(6, np.uint8), np.zeros(1, np.int32)
    group[5], model.geom_group[boxes] = 1, 5
    rng = np.random.default_rng(0)
    for x, y in rng.uniform((0.0, -0.8), (9.0, 0.8), (200, 2)):
        distance = mujoco.mj_ray(model, data, [x, y, 9.0], [0.0, 0.0, -1.0], group, 1, -1, hit)
        height = row.height(*(torch.tensor([[part]], dtype=torch.float64) for part in (x, y)))
        assert 9.0 - distance == pytest.approx(float(height), abs=2e-3)  # faces in one plane are drawn a little apart
    with pytest.raises(ContractError, match="got 2"):
        build_scene(ROBOT, env._bank.tracks.rows(torch.tensor([0, 1])))


def test_a_map_is_joined_covered_and_chosen_per_row():
    one = Map.of(np.array([-1.0, 0.0]), 1.0, 0.0, 0.5, 1.0, 1.0)
    lid = one.covered(np.zeros(2), np.full(2, 3.0), np.full(2, -2.0))
    assert lid.floor.tolist() == [-2.0, -2.0]
    assert lid.top[:, 1].tolist() == [-1.0, 0.0]
    assert one.end.tolist() == [1.5, 1.5]
    other = Map.level(2)
    chosen = Map.where(np.array([0, 1]), [one, other])
    assert chosen.length.tolist() == [[1.0], [0.0]]
    assert chosen.floor.tolist() == [-1.0, 0.0]
