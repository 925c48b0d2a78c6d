"""The height function, the boxes that feet touch and the window of boxes under the robot describe one ground."""

import mujoco
import numpy as np
import pytest
import torch
from worlds import TERRAINS, bank_of, batched, random_actions

from policykd.envs.batched_env import BatchedEnv, EnvConfig
from policykd.envs.physics.ground_boxes import ground_fields
from policykd.envs.robots import get_robot
from policykd.envs.robots.mjcf import build_model
from policykd.envs.skills import get_skill

DOWN = np.array([0.0, 0.0, -1.0])


def ground_only(model):
    """Put the robot's geoms out of reach of rays: they are in group 1, ground is in group 0."""
    model.geom_group[:] = 1
    model.geom_group[model.geom_bodyid == 0] = 0
    return np.array([1, 0, 0, 0, 0, 0], dtype=np.uint8)


def ray_heights(model, data, x):
    groups = ground_only(model)
    hit = np.zeros(1, dtype=np.int32)
    heights = []
    for place in x:
        distance = mujoco.mj_ray(model, data, np.array([place, 0.0, 500.0]), DOWN, groups, 1, -1, hit)
        heights.append(500.0 - distance if distance >= 0 else np.nan)
    return np.array(heights)


def place_boxes(model, pose, half):
    for name, value in ground_fields(pose.numpy(), half.numpy()).items():
        getattr(model, name)[: len(pose)] = value


@pytest.mark.parametrize("name", TERRAINS)
def test_the_height_function_equals_a_ray_at_ten_thousand_places(name):
    tracks = bank_of(name, tracks=10, seed=5).tracks
    model = build_model(get_robot("biped"), tracks.segments)
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    pose, half = tracks.boxes_from(tracks.edges[:, 0], tracks.segments)
    for i in range(10):
        place_boxes(model, pose[i], half[i])
        mujoco.mj_kinematics(model, data)
        x = rng.uniform(-5.9, float(tracks.edges[i, -1]) - 0.1, 1000)
        height = tracks.rows(torch.tensor([i])).height(torch.from_numpy(x)[None])[0].numpy()
        np.testing.assert_allclose(ray_heights(model, data, x), height, atol=1e-6, rtol=0)


class Glider:
    """An engine without physics: the robot glides along at a constant speed, and the boxes are written down."""

    speed = 5.0

    def __init__(self, model, num_sims, boxes, decimation):
        self.num_sims, self.device = num_sims, torch.device("cpu")
        self._fields = {
            "qpos": torch.zeros(num_sims, model.nq, dtype=torch.float64),
            "qvel": torch.zeros(num_sims, model.nv, dtype=torch.float64),
            "actuator_force": torch.zeros(num_sims, model.nu, dtype=torch.float64),
        }
        self.pose = torch.zeros(num_sims, boxes, 3, dtype=torch.float64)
        self.half = torch.zeros(num_sims, boxes, 2, dtype=torch.float64)
        self.moves = 0

    def field(self, name):
        return self._fields[name]

    def step(self, targets):
        self._fields["qpos"][:, 0] += self.speed / 30
        self._fields["qpos"][:, 1] = 1e4  # far above, so that nobody falls
        return torch.zeros(self.num_sims, dtype=torch.bool)

    def reset(self, ids, qpos, qvel):
        self._fields["qpos"][ids], self._fields["qvel"][ids] = qpos, qvel

    def set_ground(self, ids, pose, half):
        self.pose[ids], self.half[ids] = pose, half
        self.moves += len(ids)


def box_heights(pose, half, x):
    """Highest top face of the boxes at each x (..., q), straight from their corners; -inf where there is none."""
    (cx, cz, angle), (length, depth) = (np.moveaxis(part.numpy(), -1, 0)[..., None] for part in (pose, half))
    c, s = np.cos(angle), np.sin(angle)
    left, top = cx - c * length - s * depth, cz - s * length + c * depth
    along = x[..., None, :] - left
    over = (along >= -1e-9) & (along <= 2 * length * c + 1e-9)
    return np.where(over, top + along * s / c, -np.inf).max(axis=-2)


@pytest.mark.parametrize("name", TERRAINS)
@pytest.mark.parametrize("speed", [5.0, -0.6])
def test_the_boxes_under_a_robot_are_the_ground_wherever_it_goes(name, speed):
    env = BatchedEnv([get_skill(f"biped/{name}")], 6, config=EnvConfig(tracks=6, ordered=True), make_engine=Glider)
    env.engine.speed = speed
    env.reset()
    reach = np.linspace(-0.95, 0.95, 76) + 1e-4  # off the edges of pieces with round lengths
    started = env.engine.moves
    for _ in range(120):
        x = env.engine.field("qpos")[:, 0].numpy()
        places = x[:, None] + reach
        height = env.ground_height(torch.from_numpy(places)).numpy()
        boxes = box_heights(env.engine.pose, env.engine.half, places)
        apart = ~np.isclose(boxes, height, atol=1e-6, rtol=0)
        assert not apart.any(), f"at {places[apart]} the boxes are at {boxes[apart]}, not {height[apart]}"
        env.step(torch.zeros(6, 11))
    assert env.engine.moves > started, "the windows never moved"


@pytest.mark.parametrize("name", TERRAINS)
def test_feet_touch_the_ground_where_the_height_function_has_it(name):
    env = batched(name, 8, loop=True)
    env.reset()
    start = torch.linspace(1.5, 25.0, 8, dtype=torch.float64)[:, None]
    highest = env.ground_height(start + torch.linspace(-0.4, 0.4, 81)).amax(dim=1)
    for i, data in enumerate(env.engine._data):
        data.qpos[0], data.qvel[0] = start[i], 1.5
        data.qpos[1] += highest[i]
        env.engine._copy_out(i)
    env._backend.move_ground()
    touches, buried, tracks = 0, 0, [env.track(i) for i in range(8)]
    for action in random_actions(32, 8, scale=0.3):
        env.step(action, restart=False)
        for i, data in enumerate(env.engine._data):
            mujoco.mj_forward(env.engine._models[i], data)
            (x, _, z), deep = data.contact.pos.T, np.abs(data.contact.dist) + 1e-6
            sides = np.stack([x - deep, x, x + deep])
            near = tracks[i].height(torch.from_numpy(sides.reshape(1, -1))).numpy().reshape(sides.shape)
            low, high = near.min(axis=0), near.max(axis=0)
            assert (low - deep - 0.04 <= z).all()
            assert (z <= high + deep).all()
            buried += int((z < low - deep).sum())
            touches += len(z)
    assert touches > 100, "too few to judge"  # on a steep way down the robots fly for long
    # Where boxes meet, a foot that is pressed in may also touch the hidden side of the next box: rarely.
    assert buried <= (0 if name.startswith("flat") else 0.01 * touches)
