"""Labeled batches next to a pool without labels."""

import pytest
import torch

from policykd.errors import ConfigError
from policykd.kd.experiments.digits import LabeledDraws
from policykd.kd.tasks.base import Split

KNOWN = Split(torch.randn(6, 4, generator=torch.Generator().manual_seed(8)), torch.arange(6) % 3)


def test_draws_repeat_and_hold_no_sample_twice():
    first, second = LabeledDraws(KNOWN, 4, 3), LabeledDraws(KNOWN, 4, 3)
    for _ in range(5):
        drawn = first.draw()
        assert torch.equal(drawn.x, second.draw().x)
        assert len({tuple(row) for row in drawn.x.tolist()}) == 4
    assert len(LabeledDraws(KNOWN, 6, 0).draw()) == 6
    with pytest.raises(ConfigError, match="labeled samples per step"):
        LabeledDraws(KNOWN, 7, 0)
