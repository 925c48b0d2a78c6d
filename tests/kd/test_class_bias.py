"""The bias of classes that a student never saw: a worked case, ties, and what is refused."""

import pytest
import torch

from policykd.errors import ConfigError
from policykd.kd.class_bias import tune_bias


def test_the_bias_that_validation_data_prefer_is_found():
    """Class 2 is 1.5 too low for every sample of its own; any bias in (1.5, 2.5) makes all four right."""
    logits = torch.tensor([[2.0, 0, 0.5], [0, 2.0, 0.5], [3.0, 0, 0.5], [0, 3.0, 0.5]])
    labels = torch.tensor([2, 2, 0, 1])
    bias = tune_bias(logits, labels, [2], limit=4.0, steps=41)
    assert bias[:2].tolist() == [0.0, 0.0]
    assert float(bias[2]) == pytest.approx(1.6)  # the smallest of them on the grid
    assert torch.equal((logits + bias).argmax(1), labels)
    unchanged = tune_bias(torch.eye(3), torch.arange(3), [1])
    assert float(unchanged.abs().max()) == 0.0  # a tie keeps the smallest


@pytest.mark.parametrize(
    ("classes", "options"), [([], {}), ([3], {}), ([0, 1, 2], {}), ([1], {"steps": 1}), ([1], {"limit": -1.0})]
)
def test_biases_of_nothing_are_refused(classes, options):
    with pytest.raises(ConfigError):
        tune_bias(torch.eye(3), torch.arange(3), classes, **options)
