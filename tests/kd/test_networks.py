"""Reference networks: parameter counts by independent arithmetic, published sizes, shapes and tap paths."""

import pytest
import torch

from policykd.errors import UnknownNameError
from policykd.kd.networks import ResNet, count_parameters, create
from policykd.kd.objective.taps import Taps


def conv(a, b, k, groups=1, bias=False):
    return a * b * k * k // groups + (b if bias else 0)


def unit(a, b, k, groups=1):
    return conv(a, b, k, groups) + 2 * b


def resnet_count(n, stem, widths, classes, shortcut=True):
    total, previous = unit(3, stem, 3), stem
    for number, width in enumerate(widths):
        for _ in range(n):
            total += unit(previous, width, 3) + unit(width, width, 3)
            if shortcut and (previous != width or (number > 0 and previous == width and _ == 0)):
                total += unit(previous, width, 1)
            previous = width
    return total + previous * classes + classes


def wrn_count(depth, k, classes):
    total, previous = conv(3, 16, 3), 16
    for width in (16 * k, 32 * k, 64 * k):
        for _ in range((depth - 4) // 6):
            total += 2 * previous + conv(previous, width, 3) + 2 * width + conv(width, width, 3)
            total += conv(previous, width, 1) if previous != width else 0
            previous = width
    return total + 2 * previous + previous * classes + classes


def vgg_count(per_stage, classes):
    total, previous = 0, 3
    for width in (64, 128, 256, 512, 512):
        for _ in range(per_stage):
            total += conv(previous, width, 3, bias=True) + 2 * width
            previous = width
    return total + previous * classes + classes


def mobilenet_count(w, classes):
    previous = int(32 * w)
    total = unit(3, previous, 3)
    for t, c, n in ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)):
        for _ in range(n):
            inner, out = previous * t, int(c * w)
            total += (unit(previous, inner, 1) if t > 1 else 0) + unit(inner, inner, 3, inner) + unit(inner, out, 1)
            previous = out
    return total + unit(previous, 1280, 1) + 1280 * classes + classes


def shuffle_v2_count(widths, last, classes):
    total, previous = unit(3, 24, 1), 24
    for width, n in zip(widths, (4, 8, 4), strict=True):
        half = width // 2
        total += unit(previous, previous, 3, previous) + unit(previous, half, 1)
        total += unit(previous, half, 1) + unit(half, half, 3, half) + unit(half, half, 1)
        total += (n - 1) * (2 * unit(half, half, 1) + unit(half, half, 3, half))
        previous = width
    return total + unit(previous, last, 1) + last * classes + classes


def shuffle_v1_count(widths, g, classes):
    total, previous = unit(3, 24, 1), 24
    for stage, (width, n) in enumerate(zip(widths, (4, 8, 4), strict=True)):
        for block in range(n):
            inner, out = width // 4, width - previous if block == 0 else width
            total += unit(previous, inner, 1, 1 if stage == block == 0 else g)
            total += unit(inner, inner, 3, inner) + unit(inner, out, 1, g)
            previous = width
    return total + previous * classes + classes


X4 = (64, 128, 256)
EXPECTED = {
    "resnet8": resnet_count(1, 16, (16, 32, 64), 100),
    "resnet20": resnet_count(3, 16, (16, 32, 64), 100),
    "resnet32": resnet_count(5, 16, (16, 32, 64), 100),
    "resnet56": resnet_count(9, 16, (16, 32, 64), 100),
    "resnet8x4": resnet_count(1, 32, X4, 100),
    "resnet32x4": resnet_count(5, 32, X4, 100),
    "wrn16-1": wrn_count(16, 1, 100),
    "wrn16-2": wrn_count(16, 2, 100),
    "wrn40-1": wrn_count(40, 1, 100),
    "wrn40-2": wrn_count(40, 2, 100),
    "vgg8": vgg_count(1, 100),
    "vgg13": vgg_count(2, 100),
    "mobilenetv2": mobilenet_count(0.5, 100),
    "shufflenetv1": shuffle_v1_count((240, 480, 960), 3, 100),
    "shufflenetv2": shuffle_v2_count((116, 232, 464), 1024, 100),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_parameter_count_and_forward(name):
    network = create(name, classes=100)
    assert count_parameters(network) == EXPECTED[name]
    assert network.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 100)


def test_published_sizes():
    """He et al. 2016, table 6 (0.27, 0.46, 0.85 M) and Zagoruyko and Komodakis 2016 (0.6, 2.2 M), 10 classes."""
    for depth, millions in ((20, 0.27), (32, 0.46), (56, 0.85)):
        network = ResNet(depth, shortcut="padding")
        assert round(count_parameters(network) / 1e6, 2) == millions
    assert round(count_parameters(create("wrn40-1")) / 1e6, 1) == 0.6
    assert round(count_parameters(create("wrn40-2")) / 1e6, 1) == 2.2
    assert count_parameters(create("lenet")) == 61_706  # LeCun et al. 1998 with full connections


def test_the_parameter_free_shortcut_subsamples_and_pads():
    block = ResNet(8, shortcut="padding").layer2[0].shortcut
    x = torch.randn(2, 16, 8, 8)
    out = block(x)
    assert torch.equal(out[:, :16], x[:, :, ::2, ::2])
    assert not out[:, 16:].any()


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("mlp", {"input_shape": (1, 8, 8), "hidden": (5, 4, 3)}, (1, 8, 8)),
        ("lenet", {"input_shape": (1, 8, 8)}, (1, 8, 8)),
        ("lenet", {"input_shape": (3, 32, 32)}, (3, 32, 32)),
        ("cnn1d", {"in_channels": 6}, (6, 64)),
        ("tcn", {"in_channels": 6}, (6, 64)),
        ("resnet8", {"in_channels": 1}, (1, 8, 8)),
        ("wrn16-1", {"in_channels": 1}, (1, 16, 16)),
    ],
)
def test_small_networks_take_their_inputs(name, options, shape):
    network = create(name, classes=7, **options)
    assert network(torch.randn(3, *shape)).shape == (3, 7)


@pytest.mark.parametrize("name", ["resnet8x4", "wrn16-1", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2"])
def test_every_layer_can_be_tapped_and_stages_shrink(name):
    network = create(name).eval()
    layers = [path for path, _ in network.named_modules()]
    with Taps(layers).attach(network) as seen, torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    sides = [seen.tensor(f"layer{n}").shape[-1] for n in (1, 2, 3)]
    assert sides == sorted(sides, reverse=True)
    assert seen.tensor("pool").dim() == 2
    assert all(seen[path] is not None for path in layers)


def test_causal_network_never_looks_ahead():
    network = create("tcn", in_channels=2).eval()
    x = torch.randn(1, 2, 40)
    changed = x.clone()
    changed[:, :, 25:] += 1.0
    with Taps(["layer4"]).attach(network) as seen:
        network(x)
        first = seen["layer4"]
        network(changed)
    torch.testing.assert_close(seen["layer4"][:, :, :25], first[:, :, :25])
    assert not torch.allclose(seen["layer4"][:, :, 25:], first[:, :, 25:])


def test_unknown_names_and_depths_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean resnet8x4"):
        create("resnet8x5")
    with pytest.raises(ValueError, match=r"6 n \+ 2"):
        ResNet(9)
