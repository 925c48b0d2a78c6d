"""A data set that ``policykd kd data`` prepared: split by its groups, standardized, with networks of fitting size.

It provides data and networks; training and comparison are left to the benchmark.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.errors import ConfigError, check_range
from policykd.kd.data.samples import Samples, read_samples
from policykd.kd.data.splits import hold_out, split_groups
from policykd.kd.options import check_choice
from policykd.kd.tasks.base import STAGE_TAPS, Split, Task, stratified
from policykd.kd.tasks.npz import VECTOR_TAPS, make_network
from policykd.kd.tasks.registry import register


@register("prepared")
def prepared(
    *,
    path: str | Path,
    split: str = "auto",
    held_out: str = "",
    samples: int | None = None,
    teacher_samples: int | None = None,
    side: int | None = None,
    seed: int = 0,
) -> Task:
    """A prepared data set; inputs are standardized per channel with the training part's mean and deviation.

    With ``groups``, 60 % of the groups are for training, 20 % each for validation and test. With ``own``, 15 % of the
    groups (or, without groups, of the samples) of the training part are for validation. With `held_out`, that group is
    the test part; loop over ``policykd.kd.data.splits.leave_one_out`` for all of them.

    Args:
        path: The file.
        split: ``own`` (the data set's test part), ``groups``, ``samples`` (single ones), or ``auto``: the first of them
            that the data set has.
        held_out: Name of the group that is the test part.
        samples: Most training samples of the student, drawn per class; None for all.
        teacher_samples: The same for the teacher, drawn from the same training part; None for those of the student.
        side: Height and width to which images are averaged down; None keeps them.
        seed: Seeds split and draw.

    Raises:
        DataFileError: The file is missing, damaged or changed.
        ConfigError: The data set does not have the split.
        UnknownNameError: The group is unknown.
    """
    data = read_samples(path)
    train, val, test = _split(data, split, held_out, seed)
    for_teacher = train if teacher_samples is None else _draw(data.y, train, teacher_samples, seed)
    train = train if samples is None else _draw(data.y, train, samples, seed)
    x = _averaged(torch.from_numpy(data.x.astype(np.float32)), side)
    axes = [axis for axis in range(x.dim()) if axis != 1] if x.dim() > 2 else [0]
    mean, std = x[train].mean(axes, keepdim=True), x[train].std(axes, keepdim=True).clamp_min(1e-6)
    y, groups = torch.from_numpy(data.y), None if data.groups is None else torch.from_numpy(data.groups)
    whole = Split((x - mean) / std, y, groups)
    shape, classes = tuple(x.shape[1:]), len(data.classes)
    return Task(
        "prepared",
        whole.take(train),
        whole.take(val),
        whole.take(test),
        classes,
        lambda: make_network(shape, classes, small=True),
        lambda: make_network(shape, classes, small=False),
        teacher_train=None if teacher_samples is None else whole.take(for_teacher),
        taps=VECTOR_TAPS if len(shape) == 1 else STAGE_TAPS,
        about=data.about,
    )


def _averaged(x: Tensor, side: int | None) -> Tensor:
    if side is None:
        return x
    if x.dim() != 4 or not 1 <= side <= min(x.shape[2:]):
        raise ConfigError(
            f"side is {side}; it is for images of at least that size, the samples are {tuple(x.shape[1:])}"
        )
    return F.adaptive_avg_pool2d(x, side)


def _split(data: Samples, split: str, held_out: str, seed: int) -> list[np.ndarray]:
    """Return the positions of training, validation and test part."""
    check_choice("split", split, ("auto", "own", "groups", "samples"))
    if split == "auto":
        split = "own" if data.test is not None and not held_out else "samples" if data.groups is None else "groups"
    if (split == "groups" or held_out) and data.groups is None:
        raise ConfigError("the data set has no groups: use split=samples")
    if held_out and data.groups is not None:
        rest, test = hold_out(data.groups, data.group_names, held_out)
        return [*_within(data, rest, seed), test]
    if split == "own":
        if data.test is None:
            raise ConfigError("the data set has no test part of its own: use split=groups or split=samples")
        return [*_within(data, np.flatnonzero(~data.test), seed), np.flatnonzero(data.test)]
    if split == "groups" and data.groups is not None:
        return split_groups(data.groups, (0.6, 0.2, 0.2), seed)
    return stratified(data.y, (0.6, 0.2, 0.2), seed)


def _within(data: Samples, rows: np.ndarray, seed: int) -> list[np.ndarray]:
    """Part rows into training and validation, by groups if there are any."""
    shares = (0.85, 0.15)
    if data.groups is None:
        parts = stratified(data.y[rows], shares, seed)
    else:
        parts = split_groups(data.groups[rows], shares, seed)
    return [rows[part] for part in parts]


def _draw(labels: np.ndarray, rows: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Return at most `samples` of the rows, the same share of every class."""
    check_range("samples", samples, len(np.unique(labels[rows])), 10**9)
    if samples >= len(rows):
        return rows
    generator, kept = np.random.default_rng([seed, 2]), []
    for label in np.unique(labels[rows]):
        own = generator.permutation(rows[labels[rows] == label])
        kept.append(own[: max(1, samples * len(own) // len(rows))])
    return np.sort(np.concatenate(kept))
