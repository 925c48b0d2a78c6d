"""Terrains follow the published parameters, and no episode gets to the end of one."""

import numpy as np
import pytest
import torch
from worlds import TERRAINS, bank_of, batched

from policykd.envs.terrains import Terrain
from policykd.envs.terrains.tracks import BEHIND, START


def pieces(name, **options):
    """Widths, grades and the jumps at the left edges of all pieces, per track, without the level ends."""
    tracks = bank_of(name, **options).tracks
    rows = []
    for edges, left, grade in zip(tracks.edges.numpy(), tracks.left.numpy(), tracks.grade.numpy(), strict=True):
        width = np.diff(edges)
        real = width > 0
        width, left, grade = width[real], left[real], grade[real]
        right = left + grade * width
        jump = np.concatenate([[0.0], left[1:] - right[:-1]])
        rows.append((width, grade, jump))
    return rows


def within(values, low, high, spread=0.6):
    """All values lie in the range, and together they span most of it."""
    values = np.asarray(values)
    assert values.size > 20
    assert values.min() >= low - 1e-9
    assert values.max() <= high + 1e-9
    assert np.ptp(values) >= spread * (high - low)


@pytest.mark.parametrize("name", TERRAINS)
def test_every_track_begins_level_and_goes_on_for_long(name):
    tracks = bank_of(name).tracks
    assert (tracks.edges[:, 0] == -BEHIND).all()
    assert (tracks.edges[:, -1] >= START + 45.0 + 5.0 - 1e-9).all()
    start = torch.linspace(-BEHIND, START - 1e-9, 50, dtype=torch.float64).expand(16, -1)
    assert (tracks.height(start) == 0).all()


@pytest.mark.parametrize("name", TERRAINS)
def test_difficulty_zero_is_flat(name):
    tracks = bank_of(name, difficulty=0.0).tracks
    x = torch.rand(16, 2000, dtype=torch.float64) * 60 - 8
    gap_floors = tracks.height(x)
    assert (gap_floors == 0).all()


@pytest.mark.parametrize("name", [t for t in TERRAINS if not t.startswith("flat")])
def test_seeds_reproduce_tracks_and_tell_them_apart(name):
    a, again, other = (bank_of(name, seed=seed).tracks for seed in (3, 3, 4))
    assert torch.equal(a.edges, again.edges)
    assert torch.equal(a.left, again.left)
    x = torch.linspace(2, 40, 400, dtype=torch.float64).expand(16, -1)
    assert (a.height(x) != other.height(x)).any(dim=1).all()
    assert len({tuple(row.tolist()) for row in a.height(x)}) == 16, "tracks of one bank repeat"


@pytest.mark.parametrize("preset", ["paper", "terrainrlsim"])
def test_gaps(preset):
    rows = pieces(f"gaps:{preset}", tracks=32)
    width = np.concatenate([w[jump < -0.1] for w, _, jump in rows])
    depth = np.concatenate([-jump[jump < -0.1] for _, _, jump in rows])
    within(width, 0.25, 0.30)
    within(depth, 0.85, 0.90)
    within(np.concatenate([w[2:-2][jump[2:-2] > 0.1] for w, _, jump in rows]), 2.0, 2.5)
    assert all((grade == 0).all() for _, grade, _ in rows)
    assert all(jump.sum() == pytest.approx(0, abs=1e-9) for _, _, jump in rows), "gaps are climbed out of"


@pytest.mark.parametrize("preset", ["paper", "terrainrlsim"])
def test_walls(preset):
    rows = pieces(f"walls:{preset}", tracks=32)
    up = [jump > 0.01 for _, _, jump in rows]
    within(np.concatenate([jump[u] for (_, _, jump), u in zip(rows, up, strict=True)]), 0.05, 0.25)
    assert np.concatenate([w[u] for (w, _, _), u in zip(rows, up, strict=True)]) == pytest.approx(0.2)
    within(np.concatenate([w[2:-2][jump[2:-2] < -0.01] for w, _, jump in rows]), 2.0, 4.0)


def test_steps_of_the_paper():
    rows = pieces("steps:paper", tracks=32)
    within(np.concatenate([jump[2:-1] for _, _, jump in rows]), 0.05, 0.15)
    within(np.concatenate([w[2:-1] for w, _, _ in rows]), 1.0, 1.5)


def test_steps_of_the_simulator():
    rows = pieces("steps:terrainrlsim", tracks=32)
    heights = np.concatenate([jump[2:-1] for _, _, jump in rows])
    within(heights, 0.05, 0.15)
    within(np.concatenate([w[2:-1] for w, _, _ in rows]), 1.5, 2.0)
    assert 0.65 < (heights > 0.10).mean() < 0.85, "half of the steps are drawn from 0.10 to 0.15 m"


def test_inclines():
    grades = np.concatenate([grade[1:-1] for _, grade, _ in pieces("incline:paper", tracks=64)])
    within(np.degrees(np.arctan(grades)), 20, 25)
    walk = np.concatenate([grade[5:-1] for _, grade, _ in pieces("incline:terrainrlsim", tracks=32)])
    assert walk.mean() == pytest.approx(0.175, abs=0.01)  # 1.75 m rise per 10 m
    low, high = np.degrees(np.arctan(np.quantile(walk, [0.05, 0.95])))
    assert low == pytest.approx(5.9, abs=0.7)
    assert high == pytest.approx(13.8, abs=0.7)


def test_slopes():
    rows = pieces("slopes:paper")
    within(np.degrees(np.arctan(np.concatenate([grade[1:-1] for _, grade, _ in rows]))), -20, 20)
    assert np.concatenate([w[1:-1] for w, _, _ in rows]) == pytest.approx(0.10)
    walk = pieces("slopes:terrainrlsim", tracks=32)
    assert np.concatenate([w[1:-1] for w, _, _ in walk]) == pytest.approx(0.025)
    grades = np.concatenate([grade[1:-1] for _, grade, _ in walk])
    assert grades.std() == pytest.approx(0.36, abs=0.03)
    assert abs(grades.mean()) < 0.03
    changes = np.concatenate([np.diff(grade[1:-1]) for _, grade, _ in walk])
    within(np.abs(changes), 0.0, 0.5)


def test_mixed_terrain_holds_every_kind_of_portion():
    rows = pieces("mixed:paper", tracks=32)
    jumps = np.concatenate([jump for _, _, jump in rows])
    grades = np.concatenate([grade for _, grade, _ in rows])
    gaps, steps = jumps[jumps < -0.5], jumps[(jumps > 0.04) & (jumps < 0.2)]
    within(-gaps, 0.85, 0.90)
    within(steps, 0.05, 0.15)
    assert (np.degrees(np.arctan(grades)) > 20).any(), "inclines"
    assert (grades < 0).any(), "slopes"


@pytest.mark.parametrize("name", [t for t in TERRAINS if t.split(":")[0] in ("steps", "gaps", "walls", "mixed")])
def test_edges_are_vertical(name):
    tracks = bank_of(name).tracks
    for edges, left in zip(tracks.edges, tracks.left, strict=True):
        jumps = torch.nonzero((left[1:] - left[:-1]).abs() > 0.02).squeeze(1)
        x = edges[jumps + 1]
        row = bank_row(tracks, edges)
        before, at = row.height((x - 1e-12)[None])[0], row.height(x[None])[0]
        flat = (row.grade[0, jumps] == 0) & (row.grade[0, jumps + 1] == 0)
        assert torch.allclose((at - before)[flat], (left[jumps + 1] - left[jumps])[flat], atol=1e-9)


def bank_row(tracks, edges):
    (i,) = torch.nonzero((tracks.edges == edges).all(dim=1))[:1].flatten().tolist()
    return tracks.rows(torch.tensor([i]))


@pytest.mark.parametrize("steps", [256, 1000])
def test_no_episode_reaches_the_end_of_its_track(steps):
    """5.2 m/s is thrice the commanded speed, and faster than a 1.4 m tall biped has been seen to run."""
    from dataclasses import replace

    from policykd.envs.batched_env import BatchedEnv, EnvConfig
    from policykd.envs.skills import get_skill

    skill = replace(get_skill("biped/gaps"), episode_steps=steps)
    env = BatchedEnv([skill], 2, config=EnvConfig(tracks=4))
    farthest = 5.2 * skill.seconds + 1.0
    assert (env.track(0).edges[0, -1] > farthest).all()
    assert (env.track(1).edges[0, -1] > farthest).all()


def test_hard_features_reach_their_extremes():
    gaps = pieces("gaps:hard", tracks=32)
    within(np.concatenate([w[jump < -0.1] for w, _, jump in gaps]), 0.7, 0.8)
    walls = pieces("walls:hard", tracks=32)
    within(np.concatenate([jump[jump > 0.01] for _, _, jump in walls]), 0.35, 0.40)
    slopes = np.concatenate([grade[1:-1] for _, grade, _ in pieces("slopes:hard")])
    within(np.degrees(np.arctan(slopes)), -35, 35)
    half = pieces("gaps:hard", difficulty=0.5, tracks=32)
    within(np.concatenate([w[jump < -0.1] for w, _, jump in half]), 0.35, 0.40)


def test_hard_steps_are_stairs_up_and_down_by_turns():
    for width, _, jump in pieces("steps:hard", tracks=16):
        rises = [i for i in range(len(jump)) if jump[i] != 0]
        assert rises == list(range(rises[0], rises[-1] + 1)), "every piece is a stair or a landing"
        flights = [jump[i : i + 6] for i in range(rises[0], rises[-1] - 5, 6)]
        landings = width[rises[0] + 5 : rises[-1] - 5 : 6]
        assert all(np.ptp(flight) < 1e-9 for flight in flights), "the stairs of a flight are equally high"
        signs = [np.sign(flight[0]) for flight in flights]
        assert signs == [signs[0] * (-1) ** i for i in range(len(signs))]
        assert ((landings >= 1.5) & (landings <= 2.5)).all()
        heights = np.abs([flight[0] for flight in flights])
        assert ((heights >= 0.16 - 1e-9) & (heights <= 0.20 + 1e-9)).all()


def test_each_difficulty_scales_the_features():
    half = pieces("steps:paper", difficulty=0.5, tracks=32)
    within(np.concatenate([jump[2:-1] for _, _, jump in half]), 0.025, 0.075)


def test_tracks_of_one_environment_are_told_apart():
    env = batched("gaps:paper", 8)
    env.reset()
    assert len({tuple(env.track(i).edges[0].tolist()) for i in range(8)}) > 2


@pytest.mark.parametrize("preset", ["paper", "terrainrlsim", "hard"])
def test_downhill_goes_down_and_incline_goes_up(preset):
    rng = np.random.default_rng(0)
    for name, sign in (("downhill", -1.0), ("incline", 1.0)):
        rise = Terrain(name, preset).generator.profile(rng, 8, 40.0, 1.0).rise.sum(1)
        assert (sign * rise > 0).all(), name


def test_slopes_of_the_paper_change_every_ten_centimeters():
    profile = Terrain("slopes").generator.profile(np.random.default_rng(0), 2, 10.0, 1.0)
    assert np.allclose(profile.width, 0.10)
    assert np.abs(np.degrees(np.arctan(profile.rise / profile.width))).max() <= 20.0
