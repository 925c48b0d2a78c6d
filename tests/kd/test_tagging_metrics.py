"""Average precision of tags."""

import pytest
import torch

from policykd.kd.metrics import micro_average_precision


def test_average_precision():
    labels, scores = torch.tensor([1, 0, 1, 1, 0]), torch.tensor([0.9, 0.8, 0.7, 0.4, 0.1])
    assert micro_average_precision(scores, labels) == pytest.approx(0.805556, abs=1e-6)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="at least one positive label"):
        micro_average_precision(torch.zeros(3), torch.zeros(3))
    with pytest.raises(ValueError, match="need one shape"):
        micro_average_precision(torch.zeros(3), torch.ones(2))
