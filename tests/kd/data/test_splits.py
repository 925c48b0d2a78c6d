"""Splits by group: whole groups, every sample once, and the prepared task that uses them."""

import numpy as np
import pytest
import torch

from policykd.errors import ConfigError, UnknownNameError
from policykd.kd.data.samples import Samples, write_samples
from policykd.kd.data.splits import hold_out, leave_one_out, split_groups
from policykd.kd.tasks import load

GROUPS = np.repeat(np.arange(10), [3, 9, 1, 4, 5, 2, 8, 7, 6, 5])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shares", [(0.6, 0.2, 0.2), (0.85, 0.15), (0.34, 0.33, 0.33)])
def test_groups_stay_together(shares, seed):
    parts = split_groups(GROUPS, shares, seed)
    assert sorted(np.concatenate(parts)) == list(range(50))
    owners = [set(GROUPS[part]) for part in parts]
    assert sum(map(len, owners)) == 10
    assert min(map(len, owners)) >= 1
    counts = [len(owner) for owner in owners]
    assert max(abs(c - 10 * s) for c, s in zip(counts[1:], shares[1:], strict=True)) <= 1
    assert [p.tolist() for p in split_groups(GROUPS, shares, seed)] == [p.tolist() for p in parts]


def test_few_groups_give_every_part_one():
    for seed in range(10):
        assert [len(set(g)) for g in ((GROUPS[:13])[p] for p in split_groups(GROUPS[:13], (0.8, 0.1, 0.1), seed))] == [
            1,
            1,
            1,
        ]
    for parts in (split_groups(np.arange(4), (0.05, 0.05, 0.05, 0.85), seed) for seed in range(3)):
        assert [len(part) for part in parts] == [1, 1, 1, 1]
    with pytest.raises(ConfigError, match="3 parts need at least as many groups, got 2"):
        split_groups(GROUPS[:12], (0.8, 0.1, 0.1), 0)
    with pytest.raises(ConfigError, match="sum to one"):
        split_groups(GROUPS, (0.8, 0.1), 0)


def test_seeds_give_other_splits():
    assert len({tuple(split_groups(GROUPS, (0.6, 0.4), seed)[0]) for seed in range(8)}) > 4


def test_leave_one_out_holds_out_every_group_once():
    names = [f"person {k}" for k in range(11)]  # the last has no samples
    folds = list(leave_one_out(GROUPS, names))
    assert [name for name, _, _ in folds] == names[:10]
    for k, (_, rest, own) in enumerate(folds):
        assert set(GROUPS[own]) == {k}
        assert sorted([*rest, *own]) == list(range(50))
    with pytest.raises(UnknownNameError, match="person 3"):
        hold_out(GROUPS, names, "persn 3")


def write(tmp_path, **changes):
    rng = np.random.default_rng(0)
    fields = {
        "x": rng.standard_normal((100, 3, 16)).astype(np.float32) * 5 + 2,
        "y": np.arange(100) % 4,
        "classes": tuple("abcd"),
        "groups": np.arange(100) // 10,
        "group_names": tuple(f"person {k}" for k in range(10)),
    }
    write_samples(tmp_path / "a.npz", Samples(**(fields | changes)))
    return tmp_path / "a.npz"


def test_the_prepared_task_splits_by_group_and_standardizes(tmp_path):
    task = load("prepared", path=write(tmp_path))
    parts = [set(part.groups.tolist()) for part in (task.train, task.val, task.test)]
    assert [len(part) for part in parts] == [6, 2, 2]
    assert len(set.union(*parts)) == 10
    torch.testing.assert_close(task.train.x.mean((0, 2)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(task.train.x.std((0, 2)), torch.ones(3), atol=1e-4, rtol=0)
    assert abs(float(task.test.x.mean())) > 1e-4  # standardized by the training part
    other = load("prepared", path=write(tmp_path), seed=1)
    assert set(other.test.groups.tolist()) != parts[2]


def test_a_held_out_group_is_the_test_part(tmp_path):
    task = load("prepared", path=write(tmp_path), held_out="person 4")
    assert set(task.test.groups.tolist()) == {4}
    assert not set(task.train.groups.tolist()) & set(task.val.groups.tolist())
    assert 4 not in {*task.train.groups.tolist(), *task.val.groups.tolist()}


def test_the_own_test_part_is_used(tmp_path):
    test = np.arange(100) >= 70
    task = load("prepared", path=write(tmp_path, test=test))
    assert set(task.test.groups.tolist()) == {7, 8, 9}
    plain = load("prepared", path=write(tmp_path, test=test, groups=None, group_names=()))
    assert (len(plain.test), plain.test.groups) == (30, None)
    assert len(plain.train) + len(plain.val) == 70
    by_group = load("prepared", path=write(tmp_path, test=test), split="groups")
    assert len(set(by_group.test.groups.tolist())) == 2


def test_fewer_samples_are_drawn_per_class_and_the_teacher_may_see_more(tmp_path):
    path = write(tmp_path)
    task = load("prepared", path=path, samples=16, teacher_samples=40)
    assert torch.bincount(task.train.y).tolist() == [4, 4, 4, 4]
    assert 36 <= len(task.for_teacher) <= 40
    rows = {x.numpy().tobytes() for x in task.for_teacher.x}
    whole = {round(float(x.sum()), 3) for x in load("prepared", path=path).train.x}
    assert len(whole) == 60
    assert len(rows) == len(task.for_teacher)
    same = load("prepared", path=path, samples=16)
    assert same.for_teacher is same.train


def test_images_are_averaged_down(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (100, 3, 8, 8), dtype=np.uint8)
    task = load("prepared", path=write(tmp_path, x=x, groups=None, group_names=()), side=4)
    assert task.input_shape == (3, 4, 4)
    blocks = x.reshape(100, 3, 4, 2, 4, 2).mean((3, 5)).astype(np.float32)
    joined = torch.cat([task.train.x, task.val.x, task.test.x])
    ratio = joined[:, 0].std() / torch.from_numpy(blocks)[:, 0].std()
    assert float((joined[:, 0].max() - joined[:, 0].min()) / ratio) == pytest.approx(np.ptp(blocks[:, 0]), rel=1e-4)
    with pytest.raises(ConfigError, match="side is 9"):
        load("prepared", path=write(tmp_path, x=x), side=9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "groups"}, "has no groups"),
        ({"split": "own"}, "no test part of its own"),
        ({"split": "persons"}, "split must be one of"),
        ({"held_out": "person 1"}, "has no groups"),
        ({"samples": 3}, "samples is 3"),
    ],
)
def test_impossible_options_are_refused(tmp_path, options, message):
    path = write(tmp_path, groups=None, group_names=())
    with pytest.raises(ConfigError, match=message):
        load("prepared", path=path, **options)
