"""The reference walking cycle stands on the ground, does not slip, and goes at its speed."""

import numpy as np
import pytest
import torch

from policykd.envs.robots import get_robot
from policykd.envs.robots.planar import Link, PlanarRobot
from policykd.envs.tasks.reference_cycle import KEY_FRAMES, SPEED, WalkingCycle, sole_points, walking_cycle
from policykd.errors import ContractError

BIPED = get_robot("biped")
CYCLE = walking_cycle(BIPED)
N = 1200


@pytest.fixture(scope="module")
def feet():
    """Places (N, 4, 2) and forward velocities (N, 4) of the soles' ends over one cycle, in the world."""
    qpos, qvel = CYCLE.at(torch.arange(N, dtype=torch.float64) / N)
    qpos = qpos.numpy().copy()
    qpos[:, 0] = np.concatenate([[0.0], np.cumsum(qvel[:-1, 0].numpy()) / N])
    points = sole_points(BIPED, qpos)
    ahead = np.roll(points[:, :, 0], -1, axis=0)
    ahead[-1] += SPEED  # the next cycle
    return points, (ahead - points[:, :, 0]) * N


def test_the_lowest_foot_is_on_the_ground(feet):
    lowest = feet[0][:, :, 1].min(axis=1)
    assert lowest.min() > -0.005, "penetration"
    assert lowest.max() < 0.005, "both feet in the air"


def test_the_standing_foot_stands_still(feet):
    points, velocity = feet
    lowest = points[:, :, 1].argmin(axis=1)
    slip = velocity[np.arange(N), lowest]
    assert np.sqrt(np.mean(slip**2)) < 0.1
    assert np.abs(slip).max() < 0.3
    assert np.abs(velocity).max() > 4.0, "while the other one swings"


def test_each_foot_stands_for_half_of_the_cycle_and_clears_the_ground_in_its_swing(feet):
    height = feet[0][:, :, 1]
    for sole in (height[:, :2], height[:, 2:]):
        standing = (sole.min(axis=1) < 0.005).mean()
        assert 0.5 <= standing < 0.65
    swing = height[int(0.65 * N) : int(0.95 * N), :2].min(axis=1)
    assert swing.min() > 0.02


def test_its_speed_is_that_of_the_standing_feet():
    qvel = CYCLE.at(torch.arange(N, dtype=torch.float64) / N)[1]
    assert float(qvel[:, 0].mean()) == pytest.approx(SPEED, abs=1e-6)
    assert CYCLE.natural_speed == pytest.approx(SPEED, rel=0.04)


def test_velocities_are_the_derivatives_of_positions():
    phase = torch.arange(240, dtype=torch.float64) / 240
    before, after = (CYCLE.at(phase + step)[0] for step in (-1 / 240, 1 / 240))
    velocity = CYCLE.at(phase)[1]
    numeric = (after - before) * 120
    assert (numeric - velocity)[:, 1:].abs().max() < 0.25  # rad/s, of some 10 rad/s
    torch.testing.assert_close(numeric[:, 2], torch.zeros(240, dtype=torch.float64))


def test_left_is_right_half_a_cycle_later():
    phase = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    order = [0, 1, 2, *(3 + BIPED.links[1:].index(BIPED.links[BIPED.mirrored_links[i + 1]]) for i in range(11))]
    for now, later in zip(CYCLE.at(phase), CYCLE.at(phase + 0.5), strict=True):
        torch.testing.assert_close(now[:, order], later, rtol=0, atol=1e-9)


def test_joint_angles_stay_within_published_ranges_and_limits():
    """Extremes of normal walking, degrees: hip 20 of extension to 40 of flexion, knee 0 to 70, ankle 25 to 15."""
    ranges = {"thigh": (-20, 40), "shank": (-70, 0), "foot": (-25, 15), "arm": (-35, 25), "forearm": (5, 55)}
    qpos = np.degrees(CYCLE.at(torch.arange(N, dtype=torch.float64) / N)[0].numpy())
    for i, link in enumerate(BIPED.joints):
        part = link.name.partition("_")[2]
        if part in ranges:
            low, high = ranges[part]
            assert low <= qpos[:, 3 + i].min()
            assert qpos[:, 3 + i].max() <= high
            assert len(KEY_FRAMES[part]) == 10
        low, high = np.degrees(link.limits)
        assert low <= qpos[:, 3 + i].min()
        assert qpos[:, 3 + i].max() <= high


def test_a_robot_without_the_joints_is_refused():
    links = (Link("trunk", None, 1.0, (0.1, 0.4), (0.0, 0.2)), Link("right_leg", "trunk", 1.0, (0.1, 0.4), (0.0, -0.2)))
    with pytest.raises(ContractError, match="robot stick cannot walk the reference cycle: it has no joint right_thigh"):
        WalkingCycle(PlanarRobot("stick", links, 0.9, 1.0, 1 / 120, 4))
