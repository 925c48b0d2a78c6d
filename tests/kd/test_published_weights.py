"""Weights of RepDistiller and mdistiller: equal logits to an independent definition over their names of tensors."""

import argparse
import os
import pickle

import pytest
import torch
import torch.nn.functional as F

from policykd.errors import ConfigError
from policykd.kd.networks import count_parameters, create
from policykd.kd.networks.published_weights import WeightsError, load_published, read_weights


class Weights:
    """Random tensors by the peers' names, made when they are first used."""

    def __init__(self, seed=0):
        self.tensors, self.generator = {}, torch.Generator().manual_seed(seed)

    def draw(self, name, *shape, positive=False):
        if name not in self.tensors:
            value = torch.randn(shape, generator=self.generator, dtype=torch.float64)
            self.tensors[name] = value.abs() + 0.5 if positive else value / max(1, shape[-1] * len(shape)) ** 0.5
        return self.tensors[name]

    def conv(self, name, x, out, size, stride=1, bias=False):
        weight = self.draw(f"{name}.weight", out, x.shape[1], size, size)
        return F.conv2d(x, weight, self.draw(f"{name}.bias", out) if bias else None, stride, size // 2)

    def norm(self, name, x):
        width = x.shape[1]
        self.draw(f"{name}.weight", width, positive=True)
        self.draw(f"{name}.bias", width)
        self.draw(f"{name}.running_mean", width)
        self.draw(f"{name}.running_var", width, positive=True)
        self.tensors[f"{name}.num_batches_tracked"] = torch.tensor(7)
        mean, var, weight, bias = (self.tensors[f"{name}.{k}"].reshape(1, -1, 1, 1)
                                   for k in ("running_mean", "running_var", "weight", "bias"))  # fmt: skip
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def linear(self, name, x, out):
        return x @ self.draw(f"{name}.weight", out, x.shape[1]).T + self.draw(f"{name}.bias", out)


def resnet(w, x, blocks, widths, classes):
    x = w.norm("bn1", w.conv("conv1", x, widths[0], 3)).relu()
    for stage, width in enumerate(widths[1:], 1):
        for k in range(blocks):
            name, stride = f"layer{stage}.{k}", 2 if stage > 1 and k == 0 else 1
            out = w.norm(f"{name}.bn1", w.conv(f"{name}.conv1", x, width, 3, stride)).relu()
            out = w.norm(f"{name}.bn2", w.conv(f"{name}.conv2", out, width, 3))
            if stride != 1 or x.shape[1] != width:
                x = w.norm(f"{name}.downsample.1", w.conv(f"{name}.downsample.0", x, width, 1, stride))
            x = (out + x).relu()
    return w.linear("fc", x.mean((2, 3)), classes)


def wide_resnet(w, x, blocks, widen, classes):
    x = w.conv("conv1", x, 16, 3)
    for stage, width in enumerate((16 * widen, 32 * widen, 64 * widen), 1):
        for k in range(blocks):
            name, stride = f"block{stage}.layer.{k}", 2 if stage > 1 and k == 0 else 1
            active = w.norm(f"{name}.bn1", x).relu()
            out = w.norm(f"{name}.bn2", w.conv(f"{name}.conv1", active, width, 3, stride)).relu()
            out = w.conv(f"{name}.conv2", out, width, 3)
            x = out + (x if x.shape[1] == width else w.conv(f"{name}.convShortcut", active, width, 1, stride))
    return w.linear("fc", w.norm("bn1", x).relu().mean((2, 3)), classes)


def vgg(w, x, counts, classes):
    for block, (width, count) in enumerate(zip((64, 128, 256, 512, 512), counts, strict=True)):
        for k in range(count):
            x = w.norm(f"block{block}.{3 * k + 1}", w.conv(f"block{block}.{3 * k}", x, width, 3, bias=True)).relu()
        x = F.max_pool2d(x, 2) if block < 3 else x
    return w.linear("classifier", x.mean((2, 3)), classes)


def shuffled(x):
    return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def shuffle_v2(w, x, widths, last, classes):
    def unit(name, k, x, out, size, stride=1, groups=1):
        weight = w.draw(f"{name}.conv{k}.weight", out, x.shape[1] // groups, size, size)
        return w.norm(f"{name}.bn{k}", F.conv2d(x, weight, None, stride, size // 2, 1, groups))

    x = w.norm("bn1", w.conv("conv1", x, 24, 1)).relu()
    for stage, (width, blocks) in enumerate(zip(widths, (3, 7, 3), strict=True), 1):
        name, half = f"layer{stage}.0", width // 2
        left = unit(name, 2, unit(name, 1, x, x.shape[1], 3, 2, x.shape[1]), half, 1).relu()
        right = unit(name, 3, x, half, 1).relu()
        right = unit(name, 5, unit(name, 4, right, half, 3, 2, half), half, 1).relu()
        x = shuffled(torch.cat([left, right], 1))
        for k in range(1, blocks + 1):
            name, (kept, moved) = f"layer{stage}.{k}", x.chunk(2, 1)
            moved = unit(name, 2, unit(name, 1, moved, half, 1).relu(), half, 3, 1, half)
            x = shuffled(torch.cat([kept, unit(name, 3, moved, half, 1).relu()], 1))
    x = w.norm("bn2", w.conv("conv2", x, last, 1)).relu()
    return w.linear("linear", x.mean((2, 3)), classes)


def shuffle_v1(w, x, widths, groups, classes):
    def unit(name, k, x, out, size, stride=1, groups=1):
        weight = w.draw(f"{name}.conv{k}.weight", out, x.shape[1] // groups, size, size)
        return w.norm(f"{name}.bn{k}", F.conv2d(x, weight, None, stride, size // 2, 1, groups))

    x = w.norm("bn1", w.conv("conv1", x, 24, 1)).relu()
    for stage, (width, blocks) in enumerate(zip(widths, (4, 8, 4), strict=True), 1):
        for k in range(blocks):
            name, stride, g = f"layer{stage}.{k}", 2 if k == 0 else 1, 1 if x.shape[1] == 24 else groups
            own = width - x.shape[1] if k == 0 else width
            out = unit(name, 1, x, own // 4, 1, groups=g).relu()
            out = out.unflatten(1, (g, -1)).transpose(1, 2).flatten(1, 2)
            out = unit(name, 2, out, own // 4, 3, stride, own // 4).relu()
            out = unit(name, 3, out, own, 1, groups=groups)
            x = (torch.cat([out, F.avg_pool2d(x, 3, 2, 1)], 1) if k == 0 else out + x).relu()
    return w.linear("linear", x.mean((2, 3)), classes)


def mobile_v2(w, x, factor, expansion, classes):
    x = w.norm("conv1.1", w.conv("conv1.0", x, int(32 * factor), 3, 2)).relu()
    table = ((16, 1, 1), (24, 2, 1), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
    for stage, (width, blocks, stride) in enumerate(table):
        for k in range(blocks):
            name, inner = f"blocks.{stage}.{k}.conv", x.shape[1] * (expansion if stage else 1)
            out = w.norm(f"{name}.1", w.conv(f"{name}.0", x, inner, 1)).relu()
            depthwise = w.draw(f"{name}.3.weight", inner, 1, 3, 3)
            out = F.conv2d(out, depthwise, None, stride if k == 0 else 1, 1, 1, inner)
            out = w.norm(f"{name}.7", w.conv(f"{name}.6", w.norm(f"{name}.4", out).relu(), int(width * factor), 1))
            x = out + x if k else out
    x = w.norm("conv2.1", w.conv("conv2.0", x, 1280, 1)).relu()
    return w.linear("classifier.0", F.avg_pool2d(x, 2).flatten(1), classes)


NETWORKS = {
    "resnet8": lambda w, x: resnet(w, x, 1, (16, 16, 32, 64), 7),
    "resnet20": lambda w, x: resnet(w, x, 3, (16, 16, 32, 64), 7),
    "resnet8x4": lambda w, x: resnet(w, x, 1, (32, 64, 128, 256), 7),
    "wrn10-1": lambda w, x: wide_resnet(w, x, 1, 1, 7),
    "wrn16-2": lambda w, x: wide_resnet(w, x, 2, 2, 7),
    "shufflenetv2": lambda w, x: shuffle_v2(w, x, (116, 232, 464), 1024, 7),
    "shufflenetv1": lambda w, x: shuffle_v1(w, x, (240, 480, 960), 3, 7),
    "mobilenetv2": lambda w, x: mobile_v2(w, x, 0.5, 6, 7),
    "vgg8": lambda w, x: vgg(w, x, (1, 1, 1, 1, 1), 7),
    "vgg13": lambda w, x: vgg(w, x, (2, 2, 2, 2, 2), 7),
}


VARIANTS = {name: {"variant": "repdistiller"} for name in ("shufflenetv1", "mobilenetv2")}


def published(name):
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = Weights()
    return x, NETWORKS[name](weights, x), weights.tensors


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_those_of_the_independent_definition(name):
    x, logits, tensors = published(name)
    network = load_published(create(name, classes=7, **VARIANTS.get(name, {})).double(), tensors).eval()
    assert logits.std() > 1e-3
    torch.testing.assert_close(network(x), logits, rtol=1e-10, atol=1e-10)


def test_counts_of_batches_are_read_where_a_file_has_them():
    tensors = {name: v for name, v in published("resnet8")[2].items() if not name.endswith("num_batches_tracked")}
    counts = {name.replace("running_mean", "num_batches_tracked"): torch.tensor(5) for name in tensors}
    counts = {name: v for name, v in counts.items() if name.endswith("num_batches_tracked")}
    for given, expected in ((tensors, 0), (tensors | counts, 5)):
        state = load_published(create("resnet8", classes=7), given).state_dict()
        assert {int(v) for name, v in state.items() if name.endswith("num_batches_tracked")} == {expected}


@pytest.mark.parametrize("name", VARIANTS)
def test_networks_of_the_papers_are_not_filled_with_weights_of_others(name):
    with pytest.raises(ConfigError, match=r'make \w+\(variant="repdistiller"\)'):
        load_published(create(name, classes=7), published(name)[2])
    with pytest.raises(ConfigError, match="variant"):
        create(name, variant="mine")
    ours, theirs = (count_parameters(create(name, classes=100, variant=v)) for v in ("paper", "repdistiller"))
    assert theirs - ours == {"mobilenetv2": 288, "shufflenetv1": -50994}[name]


@pytest.mark.parametrize("wrap", ["bare", "model", "state_dict", "module"])
def test_files_of_both_projects_are_read(tmp_path, wrap):
    x, logits, tensors = published("resnet8")
    content = {
        "bare": tensors,
        "model": {"opt": argparse.Namespace(model="resnet8", lr=0.05), "model": tensors, "best_acc": torch.tensor(0.7)},
        "state_dict": {"state_dict": tensors, "epoch": 240},
        "module": {"model": {f"module.{k}": v for k, v in tensors.items()}},
    }[wrap]
    torch.save(content, tmp_path / "ckpt.pth")
    network = load_published(create("resnet8", classes=7).double(), tmp_path / "ckpt.pth").eval()
    torch.testing.assert_close(network(x), logits, rtol=1e-10, atol=1e-10)


class Attack:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_hostile_file_is_refused_and_not_executed(tmp_path):
    target, path = tmp_path / "executed", tmp_path / "ckpt.pth"
    torch.save({"model": {"fc.weight": torch.zeros(1)}, "more": Attack(target)}, path)
    with pytest.raises(WeightsError, match="without running code"):
        read_weights(path)
    assert not target.exists()
    torch.load(path, weights_only=False)
    assert target.exists()  # the same file does act when it is unpickled


@pytest.mark.parametrize("content", [{}, {"fc.weight": torch.zeros(1), "epoch": 3}, [torch.zeros(1)]], ids=str)
def test_files_without_tensors_by_name_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "ckpt.pth")
    with pytest.raises(WeightsError, match="holds no state dict"):
        read_weights(tmp_path / "ckpt.pth")


@pytest.mark.parametrize("content", [b"", b"nonsense", pickle.dumps({"a": 1}, protocol=2)])
def test_damaged_files_are_refused(tmp_path, content):
    path = tmp_path / "ckpt.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"cannot be read|holds no state dict"):
        read_weights(path)
    with pytest.raises(WeightsError, match="cannot be read"):
        read_weights(tmp_path / "missing.pth")


def test_weights_that_do_not_fit_are_refused_and_change_nothing():
    _, _, tensors = published("resnet8")
    for name, options, message in (
        ("resnet14", {"classes": 7}, "tensors are missing"),
        ("resnet8", {"classes": 10}, r"fc.weight is \(7, 64\), expected \(10, 64\)"),
        ("wrn10-1", {"classes": 7}, "are unknown"),
    ):
        network = create(name, **options)
        before = {k: v.clone() for k, v in network.state_dict().items()}
        with pytest.raises(WeightsError, match=message):
            load_published(network, tensors)
        torch.testing.assert_close(network.state_dict(), before)
    with pytest.raises(ConfigError, match=r"into ResNet, WideResNet, .*VGG, not into a MLP"):
        load_published(create("mlp", input_shape=(4,)), tensors)
