"""Every network: number of parameters, names of layers, and outputs for weights that a formula gives."""

import math
from functools import cache, partial

import pytest
import torch
from torch import nn

from policykd.kd.networks import NETWORKS, ResNet, count_parameters, create
from policykd.kd.networks.cosine_fusion import CosineFusion
from policykd.kd.networks.frame_tagger import FrameTagger
from policykd.kd.networks.generators import ImageGenerator, LabelCritic, VectorGenerator
from policykd.kd.networks.headed_cnn import HeadedCNN
from policykd.kd.networks.hidden_cnn import HiddenCNN
from policykd.kd.networks.sensor_transformer import SensorTransformer


class OfRows(nn.Module):
    """A network of samples and labels as one of rows that end in two numbers of the label."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, rows):
        return self.network(rows[:, :-2], rows[:, -2:])


PICTURE = (3, 16, 16)
SHAPES = {"mlp": (2, 3), "lenet": (1, 28, 28), "cnn1d": (3, 20), "tcn": (3, 20)}
OPTIONS = {"mlp": {"input_shape": (2, 3)}, "cnn1d": {"in_channels": 3}, "tcn": {"in_channels": 3}}
MORE = {
    "mlp with dropout": (partial(create, "mlp", input_shape=(5,), hidden=(4, 3, 6), dropout=0.4), (5,)),
    "lenet of 8": (partial(create, "lenet", input_shape=(1, 8, 8)), (1, 8, 8)),
    "lenet of 20": (partial(create, "lenet", input_shape=(2, 20, 20)), (2, 20, 20)),
    "lenet of 32": (partial(create, "lenet", input_shape=(3, 32, 32)), (3, 32, 32)),
    "resnet8 of 1 channel": (partial(create, "resnet8", in_channels=1), (1, 9, 9)),
    "resnet14 with padding": (partial(ResNet, 14, (2, 3, 4, 5), shortcut="padding"), PICTURE),
    "vgg8 of 64": (partial(create, "vgg8", in_channels=1), (1, 64, 64)),
    "vgg8 of 64 x 32": (partial(create, "vgg8", in_channels=1), (1, 64, 32)),
    "wrn10-1 of 2 channels": (partial(create, "wrn10-1", in_channels=2), (2, 8, 8)),
    "mobilenetv2, wide": (
        partial(create, "mobilenetv2", width=1.1, expansion=2, stem_stride=1),
        PICTURE,
    ),
    "mobilenetv2, repdistiller": (partial(create, "mobilenetv2", variant="repdistiller"), PICTURE),
    **{
        f"shufflenetv1 of {groups} groups": (partial(create, "shufflenetv1", groups=groups, in_channels=1), (1, 8, 8))
        for groups in (1, 2, 4, 8)
    },
    "shufflenetv1, repdistiller": (partial(create, "shufflenetv1", variant="repdistiller"), PICTURE),
    **{
        f"shufflenetv2 times {width}": (partial(create, "shufflenetv2", size=width, in_channels=1), (1, 8, 8))
        for width in (0.5, 1.5, 2.0)
    },
    "cnn1d, wide kernel": (partial(create, "cnn1d", in_channels=2, widths=(3, 5), kernel=7), (2, 11)),
    "tcn, deep": (partial(create, "tcn", in_channels=2, width=3, depth=5, kernel=2), (2, 25)),
    "hidden_cnn of series": (partial(HiddenCNN, (3, 20), (4, 5, 6), classes=7), (3, 20)),
    "hidden_cnn of pictures": (partial(HiddenCNN, PICTURE, (4, 5), classes=7, kernel=5), PICTURE),
    "headed_cnn": (partial(HeadedCNN, (3, 5), in_channels=3, classes=7), PICTURE),
    "frame_tagger": (partial(FrameTagger, 5, (4, 3), 6), (7, 5)),
    "generator of vectors": (lambda: VectorGenerator(4, (5, 6), (2, 3)), (4,)),
    "generator of vectors by label": (lambda: OfRows(VectorGenerator(3, (5,), (4,), label_size=2, bounded=True)), (5,)),
    "generator of images": (lambda: ImageGenerator(5, (2, 8, 12), width=3), (5,)),
    "critic": (lambda: OfRows(LabelCritic(3, 2, (6, 5))), (5,)),
    "positive critic": (lambda: OfRows(LabelCritic(3, 2, (8, 16), positive=True)), (5,)),
    "sensor_transformer": (
        partial(SensorTransformer, (6, 12), positions=3, width=8, heads=2, temporal=1, piece=4, classes=5, dropout=0.3),
        (6, 12),
    ),
    "cosine_fusion": (partial(CosineFusion, (3, 4, 2), hidden=6, width=5, classes=7), (9,)),
}
MADE = {name: (partial(create, name, **OPTIONS.get(name, {})), SHAPES.get(name, PICTURE)) for name in NETWORKS} | MORE


@cache
def powers():
    """Return n ** 1.1 for every place of the largest layer."""
    return torch.arange(1, 1 + 512 * 512 * 9, dtype=torch.float64) ** 1.1


def waves(shape, phase=0.0):
    """Return numbers of a formula, so that neither a generator nor an initialization matters."""
    return torch.sin(powers()[: math.prod(shape)] + phase).view(shape)


@pytest.mark.parametrize("name", MADE)
def test_a_network_is_the_recorded_one(name, recorded):
    make, shape = MADE[name]
    torch.manual_seed(0)
    network = make().double()
    drawn = sum(float(value.detach().abs().sum()) for value in network.parameters())
    with torch.no_grad():
        for number, value in enumerate(network.parameters()):
            wave = waves(value.shape, number) if value.dim() else torch.tensor(0.7)
            value.copy_(wave * (value[0].numel() ** -0.5) if value.dim() > 1 else 1.0 + 0.3 * wave)
        found = {"eval": network.eval()(waves((3, *shape)))}
        found["train"] = network.train()(waves((4, *shape), 0.5))
        if hasattr(network, "features_and_logits"):
            found["features"] = network.eval().features_and_logits(waves((3, *shape)))[0]
        if isinstance(network, HeadedCNN):
            outputs = network.eval().outputs(waves((3, *shape)))
            found |= {"views": outputs.logits, "embeddings": outputs.embeddings}
    layers = [path for path, _ in network.named_modules() if path.count(".") < 2]
    recorded("networks", name, found | {"parameters": count_parameters(network), "drawn": drawn, "layers": layers})
