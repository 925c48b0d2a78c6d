"""Average precision of tags and relative gains."""

import pytest
import torch

from policykd.kd.metrics import micro_average_precision, relative_gain


def test_average_precision_and_relative_gain():
    labels, scores = torch.tensor([1, 0, 1, 1, 0]), torch.tensor([0.9, 0.8, 0.7, 0.4, 0.1])
    assert micro_average_precision(scores, labels) == pytest.approx(0.805556, abs=1e-6)
    assert relative_gain(0.700, 0.710, 0.7127) == pytest.approx(0.27)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="must improve on the baseline"):
        relative_gain(0.7, 0.7, 0.8)
    with pytest.raises(ValueError, match="at least one positive label"):
        micro_average_precision(torch.zeros(3), torch.zeros(3))
    with pytest.raises(ValueError, match="need one shape"):
        micro_average_precision(torch.zeros(3), torch.ones(2))
