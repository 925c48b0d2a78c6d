"""HiddenCNN: shapes, taps, and values that follow from its layers."""

import pytest
import torch
import torch.nn.functional as F

from policykd.errors import ConfigError
from policykd.kd.networks.hidden_cnn import HiddenCNN
from policykd.kd.objective.taps import Taps


@pytest.mark.parametrize(("shape", "sizes"), [((3, 16, 16), [(16, 16), (8, 8)]), ((6, 32), [(16,), (8,)])])
def test_taps_and_logits(shape, sizes):
    network, x = HiddenCNN(shape, (4, 8), classes=5).eval(), torch.randn(2, *shape)
    with Taps(["map1", "map2", "hidden2"]).attach(network) as seen:
        logits = network(x)
        assert [tuple(seen.tensor(tap).shape) for tap in ("map1", "map2")] == [(2, 4, *sizes[0]), (2, 8, *sizes[1])]
        feature = seen.tensor("hidden2")
    torch.testing.assert_close(feature, network.features_and_logits(x)[0])
    torch.testing.assert_close(logits, network.fc(feature))


def test_the_feature_is_the_mean_of_the_last_map():
    network, x = HiddenCNN((2, 8, 8), (3,), classes=4).eval(), torch.randn(2, 2, 8, 8)
    conv, norm = network.map1[0], network.map1[1]
    maps = F.conv2d(x, conv.weight, padding=1) / (1 + norm.eps) ** 0.5
    torch.testing.assert_close(network.features_and_logits(x)[0], maps.relu().mean((2, 3)))


@pytest.mark.parametrize(("shape", "hidden"), [((8,), (4,)), ((3, 8, 8), ()), ((1, 2, 3, 4), (4,))])
def test_impossible_shapes_are_refused(shape, hidden):
    with pytest.raises(ConfigError, match="need a layer"):
        HiddenCNN(shape, hidden, classes=2)
