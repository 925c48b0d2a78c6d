"""Reference networks: parameter counts by independent arithmetic, published sizes, shapes and tap paths."""

import pytest
import torch
from torch import nn

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


def with_weights_in_order(reference, network):
    """Copy a network's tensors into an independent definition whose layers have the same order."""
    own, other = reference.state_dict(), network.state_dict()
    assert [v.shape for v in own.values()] == [v.shape for v in other.values()]
    reference.load_state_dict(dict(zip(own, other.values(), strict=True)))
    return reference.eval()


def randomized(network):
    """Random weights and batch statistics, so that every layer counts."""
    generator = torch.Generator().manual_seed(0)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.copy_(0.3 * torch.randn(value.shape, generator=generator) + (0.5 if value.dim() == 1 else 0.0))
            value.abs_() if value.dim() == 1 else None
    return network.double().eval()


def reference_vgg(plan, side):
    """Simonyan and Zisserman's stages as RepDistiller has them: pooling after three stages, a fourth at side 64."""
    layers, width = [], 3
    for stage, widths in enumerate(plan):
        for out in widths:
            layers += [nn.Conv2d(width, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
            width = out
        if stage < 3 or (stage == 3 and side == 64):
            layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 5)).double()


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("vgg8", [[64], [128], [256], [512], [512]]),
        ("vgg13", [[64] * 2, [128] * 2, [256] * 2, [512] * 2, [512] * 2]),
    ],
)
def test_vgg_gives_the_logits_of_an_independent_definition(name, plan, side):
    network = randomized(create(name, classes=5))
    reference = with_weights_in_order(reference_vgg(plan, side), network)
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad(), Taps(["layer5"]).attach(network) as seen:
        torch.testing.assert_close(network(x), reference(x), rtol=1e-10, atol=1e-12)
    assert seen.tensor("layer5").shape[2:] == (4, 4)


class ReferenceBlock(nn.Module):
    """Post-activation residual block of He et al. 2016, written apart from the package."""

    def __init__(self, width, out, stride):
        super().__init__()
        self.a, self.na = nn.Conv2d(width, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.b, self.nb = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        if stride != 1 or width != out:
            self.s, self.ns = nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out)

    def forward(self, x):
        y = self.nb(self.b(torch.relu(self.na(self.a(x)))))
        return torch.relu(y + (self.ns(self.s(x)) if hasattr(self, "s") else x))


def reference_resnet(widths, blocks):
    layers = [nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
    width = widths[0]
    for stage, out in enumerate(widths[1:]):
        for block in range(blocks):
            layers.append(ReferenceBlock(width, out, 2 if stage and not block else 1))
            width = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5)).double()


@pytest.mark.parametrize(
    ("name", "widths", "blocks"),
    [("resnet8", (16, 16, 32, 64), 1), ("resnet20", (16, 16, 32, 64), 3), ("resnet8x4", (32, 64, 128, 256), 1)],
)
def test_resnet_gives_the_logits_of_an_independent_definition(name, widths, blocks):
    network = randomized(create(name, classes=5))
    reference = with_weights_in_order(reference_resnet(widths, blocks), network)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(network(x), reference(x), rtol=1e-10, atol=1e-12)


class ReferenceWideBlock(nn.Module):
    """Pre-activation block of Zagoruyko and Komodakis 2016; its shortcut starts from the activated input."""

    def __init__(self, width, out, stride):
        super().__init__()
        self.na, self.a = nn.BatchNorm2d(width), nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.nb, self.b = nn.BatchNorm2d(out), nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.s = nn.Conv2d(width, out, 1, stride, bias=False) if width != out else None

    def forward(self, x):
        h = torch.relu(self.na(x))
        y = self.b(torch.relu(self.nb(self.a(h))))
        return y + (x if self.s is None else self.s(h))


def reference_wrn(blocks, k):
    layers, width = [nn.Conv2d(3, 16, 3, 1, 1, bias=False)], 16
    for stage, out in enumerate((16 * k, 32 * k, 64 * k)):
        for block in range(blocks):
            layers.append(ReferenceWideBlock(width, out, 2 if stage and not block else 1))
            width = out
    head = [nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5)]
    return nn.Sequential(*layers, *head).double()


def test_wide_resnet_gives_the_logits_of_an_independent_definition():
    network = randomized(create("wrn16-2", classes=5))
    reference = with_weights_in_order(reference_wrn(2, 2), network)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(network(x), reference(x), rtol=1e-10, atol=1e-12)
