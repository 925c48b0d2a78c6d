"""Networks between feature maps, and checks of shapes: layers one by one, boundaries, and what errors name."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from policykd.divergences import gaussian_kl
from policykd.errors import ConfigError, ShapeError
from policykd.kd import losses, shapes
from policykd.kd.losses import _connectors as connectors
from policykd.kd.losses.ft import Paraphraser
from policykd.kd.losses.kdsvd import kdsvd
from policykd.kd.losses.ofd import ofd_margin
from policykd.kd.losses.reviewkd import Fusion, hierarchical_context
from policykd.kd.objective.projectors import MLP, Chain, Conv1x1, Identity, Linear, Places, Pool, ProjectorError, Tokens


def shapes_of(module):
    return [
        (type(layer).__name__.lstrip("_"), tuple(layer.kernel_size), tuple(layer.stride), tuple(layer.padding))
        for layer in module.modules()
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d)
    ]


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        ((3, 8, 8), (5, 4, 4), ("Conv2d", (3, 3), (2, 2), (1, 1))),
        ((3, 4, 4), (5, 8, 8), ("ConvTranspose2d", (4, 4), (2, 2), (1, 1))),
        ((3, 7, 6), (5, 4, 6), ("Conv2d", (4, 1), (1, 1), (0, 0))),
        ((3, 8), (5, 4), ("Conv1d", (3,), (2,), (1,))),
        ((3, 4), (5, 8), ("ConvTranspose1d", (4,), (2,), (1,))),
        ((3, 4), (5, 4), ("Conv1d", (1,), (1,), (0,))),
    ],
)
def test_a_regressor_maps_the_shape_of_a_student_to_that_of_a_teacher(student, teacher, expected):
    for relu in (True, False):
        made = connectors.HintRegressor(student, teacher, relu=relu)
        assert shapes_of(made) == [expected]
        assert isinstance(made.net[-1], nn.ReLU) is relu
        assert made(torch.randn(2, *student)).shape == (2, *teacher)
    assert isinstance(connectors.HintRegressor(student, teacher).net[-1], nn.ReLU)


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ((3, 3, 3), (5, 4, 4), r"from size \(3, 3\) to \(4, 4\): resize"),
        ((3, 8, 3), (5, 4, 4), r"from size \(8, 3\)"),
        ((3, 8), (5, 4, 4), "a hint is a map"),
        ((3,), (5,), "a hint is a map"),
        ((3, 4, 4, 4), (5, 4, 4, 4), "a hint is a map"),
    ],
)
def test_other_shapes_have_no_regressor(student, teacher, message):
    with pytest.raises(ConfigError, match=message):
        connectors.HintRegressor(student, teacher)


def test_convolutions_with_batch_norm():
    made = connectors.conv_bn(3, 5, kernel=3, relu=True)
    assert [type(layer).__name__.lstrip("_") for layer in made] == ["Conv2d", "BatchNorm2d", "ReLU"]
    assert shapes_of(made) == [("Conv2d", (3, 3), (1, 1), (1, 1))]
    assert made[0].bias is None
    plain = connectors.conv_bn(3, 5, kernel=5, stride=2, dims=1)
    assert [type(layer).__name__.lstrip("_") for layer in plain] == ["Conv1d", "BatchNorm1d"]
    assert shapes_of(plain) == [("Conv1d", (5,), (2,), (2,))]
    assert shapes_of(connectors.conv_bn(3, 5)) == [("Conv2d", (1, 1), (1, 1), (0, 0))]


def test_maps_of_other_axes_are_told_how_to_be_read():
    two, one = connectors.convolution(2, 3, 4, 1), connectors.convolution(1, 3, 4, 1)
    for layer, given, message in (
        (two, (2, 3, 8), r"made for maps \(B, C, H, W\), got \(2, 3, 8\); make it with dims=1$"),
        (one, (2, 3, 8, 8), r"made for maps \(B, C, L\), got \(2, 3, 8, 8\); make it with dims=2$"),
        (two, (2, 3), r"made for maps \(B, C, H, W\), got \(2, 3\)$"),
        (one, (2, 3), r"made for maps \(B, C, L\), got \(2, 3\)$"),
    ):
        with pytest.raises(ShapeError, match=message):
            layer(torch.zeros(given))


def test_connectors_are_optional_together():
    assert isinstance(connectors.optional_connector(None, None), nn.Identity)
    assert shapes_of(connectors.optional_connector(3, 5)) == [("Conv2d", (1, 1), (1, 1), (0, 0))]
    for one, other in ((3, None), (None, 5)):
        with pytest.raises(ConfigError, match="give both student_channels and teacher_channels, or neither"):
            connectors.optional_connector(one, other)
    assert connectors.channel_pairs([1, 2], [3, 4]) == [(1, 3), (2, 4)]
    with pytest.raises(ConfigError, match=r"as many student as teacher levels, got \[1\] and \[3, 4\]"):
        connectors.channel_pairs([1], [3, 4])


def test_levels_go_through_their_own_connector_and_to_the_smaller_size():
    doubling, tripling = (nn.Conv2d(1, 1, 1, bias=False) for _ in range(2))
    nn.init.constant_(doubling.weight, 2.0)
    nn.init.constant_(tripling.weight, 3.0)
    s, t = torch.arange(16.0).reshape(1, 1, 4, 4), torch.ones(1, 1, 2, 2)
    students, teachers = connectors.connected(nn.ModuleList([doubling, tripling]), [s, t], [t, s])
    torch.testing.assert_close(students[0], 2.0 * F.avg_pool2d(s, 2))
    torch.testing.assert_close(students[1], 3.0 * t)
    torch.testing.assert_close(teachers[1], F.avg_pool2d(s, 2))
    vectors, others = connectors.connected(nn.ModuleList(), torch.ones(2, 3), torch.zeros(2, 3))
    assert vectors[0].sum() == 6
    assert others[0].shape == (2, 3)
    with pytest.raises(ValueError, match="built for 2 levels, got 1"):
        connectors.connected(nn.ModuleList([doubling, tripling]), s, t)


def test_contexts_are_weighted_by_halves():
    s = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    t = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    gaps = [(F.adaptive_avg_pool2d(s, size) - F.adaptive_avg_pool2d(t, size)).square().flatten(1).mean(1)
            for size in (4, 2, 1)]  # fmt: skip
    torch.testing.assert_close(hierarchical_context(s, t), (gaps[0] + gaps[1] / 2 + gaps[2] / 4) / 1.75)
    vector = torch.tensor([[1.0, 2.0], [0.0, 4.0]])
    torch.testing.assert_close(hierarchical_context(vector, torch.zeros(2, 2)), torch.tensor([2.5, 8.0]))
    for pools in ((0,), (4, -1)):
        with pytest.raises(ConfigError, match="pools must be positive sizes"):
            losses.ReviewKD([3], [4], pools=pools)
    assert losses.ReviewKD([3], [4], pools=(1,)).pools == (1,)


def test_the_stream_of_a_review_is_as_wide_as_the_deepest_level_up_to_512():
    for deepest, mid, expected in ((7, None, 7), (512, None, 512), (513, None, 512), (7, 9, 9)):
        made = losses.ReviewKD([3, deepest], [4, 4], mid_channels=mid)
        assert [fusion.reduce[0].out_channels for fusion in made.fusions] == [expected, expected]
        assert [fusion.attention is None for fusion in made.fusions] == [False, True]
    with pytest.raises(ConfigError, match="at least one level"):
        losses.ReviewKD([], [])
    with pytest.raises(ValueError, match="built for 1 levels, got 2"):
        losses.ReviewKD([3], [4])([torch.zeros(1, 3, 2, 2)] * 2, [torch.zeros(1, 4, 2, 2)] * 2)


@torch.no_grad()
def test_fusions_weigh_a_level_and_the_deeper_stream():
    torch.manual_seed(0)
    made = Fusion(3, 2, 4, fuse=True).eval()
    level, deeper = torch.randn(2, 3, 4, 4), torch.randn(2, 2, 2, 2)
    own = made.reduce(level)
    wide = deeper.repeat_interleave(2, 2).repeat_interleave(2, 3)
    maps = torch.sigmoid(made.attention[0](torch.cat([own, wide], 1)))
    fused = own * maps[:, :1] + wide * maps[:, 1:]
    out, stream = made(level, deeper, (4, 4))
    torch.testing.assert_close(stream, fused)
    torch.testing.assert_close(out, made.expand(fused))
    out, _ = made(level, deeper, (2, 2))
    torch.testing.assert_close(out, made.expand(fused[:, :, ::2, ::2]))
    _, stream = made(level, None, (4, 4))
    torch.testing.assert_close(stream, own)
    assert made.attention[0].weight.shape == (2, 4, 1, 1)


def test_maps_shrink_along_every_axis_to_the_smaller_size():
    first, second = torch.randn(2, 3, 4, 6), torch.randn(2, 5, 8, 2)
    for pool, function in (("avg", F.adaptive_avg_pool2d), ("max", F.adaptive_max_pool2d)):
        one, two = shapes.match_size(first, second, pool)
        torch.testing.assert_close(one, function(first, (4, 2)))
        torch.testing.assert_close(two, function(second, (4, 2)))
    series = torch.randn(2, 3, 8)
    torch.testing.assert_close(shapes.shrink_map(series, [4], "max"), F.max_pool1d(series, 2))
    torch.testing.assert_close(shapes.shrink_map(series, [4]), F.avg_pool1d(series, 2))
    assert shapes.shrink_map(series, [8]) is series
    for other in (torch.zeros(2, 3), torch.zeros(2, 3, 4, 4, 4), first[..., 0]):
        with pytest.raises(ShapeError, match="must both be"):
            shapes.match_size(first if other.dim() == 3 else other, other)


def test_logits_have_two_axes_and_enough_classes():
    shapes.check_logits(torch.zeros(2, 1))
    shapes.check_logits(torch.zeros(2, 3), least=3)
    for given, least, message in (((3,), 1, "at least 2 dimensions"), ((2, 3, 4), 1, "bring the class axis last"),
                                  ((2, 2), 3, "at least 3 classes here")):  # fmt: skip
        with pytest.raises(ShapeError, match=message):
            shapes.check_logits(torch.zeros(given), least=least)


@pytest.mark.parametrize(("dtype", "slack"), [(torch.float32, 1e-3), (torch.float64, 1e-3), (torch.float16, 1e-2)])
def test_soft_labels_sum_to_one_within_their_precision(dtype, slack):
    for sign in (1.0, -1.0):
        shapes.check_soft_labels(torch.tensor([[0.25, 0.75 + 0.8 * sign * slack], [1.0, 0.0]], dtype=dtype))
        with pytest.raises(ValueError, match="rows sum to 1"):
            shapes.check_soft_labels(torch.tensor([[0.25, 0.75 + 1.5 * sign * slack], [1.0, 0.0]], dtype=dtype))
    with pytest.raises(ValueError, match="rows sum to 1"):
        shapes.check_soft_labels(torch.tensor([[-0.25, 1.25], [0.5, 0.5]], dtype=dtype))


def test_labels_are_classes():
    logits = torch.zeros(3, 4)
    assert shapes.check_labels(logits, torch.tensor([0, 3, 1], dtype=torch.int32)).dtype == torch.int64
    for bad, message in (([0, 4, 1], "from 0 to 4"), ([-1, 3, 1], "from -1 to 3")):
        with pytest.raises(ValueError, match=rf"must be in \[0, 3\] for 4 classes, got values {message}"):
            shapes.check_labels(logits, torch.tensor(bad))
    with pytest.raises(ValueError, match=r"must have shape \(3,\)"):
        shapes.check_labels(logits, torch.tensor([0, 1]))
    for wrong, kind in (
        (torch.zeros(3), "torch.float32"),
        (torch.ones(3, dtype=torch.bool), "torch.bool"),
        ([0], "list"),
    ):
        with pytest.raises(TypeError, match=f"got {kind}"):
            shapes.check_labels(logits, wrong)
    assert shapes.prepare_target(logits, torch.full((3, 4), 0.25)).dtype == torch.float32


def test_levels_are_paired():
    one = torch.zeros(1)
    assert shapes.as_levels(one, one) == [(one, one)]
    assert len(shapes.as_levels([one, one], [one, one], at_least=2)) == 2
    for student, teacher in (([one], [one]), ([one, one], [one]), ([], [])):
        with pytest.raises(ValueError, match=f"at least 2, got {len(student)} and {len(teacher)}"):
            shapes.as_levels(student, teacher, at_least=2)
    with pytest.raises(ShapeError, match="equal widths here, got 6 and 4 values"):
        shapes.prepare_embeddings(torch.zeros(2, 2, 3), torch.zeros(2, 4), same_width=True)
    assert shapes.prepare_embeddings(torch.zeros(2, 2, 3), torch.zeros(2, 4))[0].shape == (2, 6)
    with pytest.raises(ShapeError, match="equal channels here"):
        shapes.prepare_maps(torch.zeros(2, 3, 4), torch.zeros(2, 5, 4), same_channels=True)
    assert shapes.prepare_maps(torch.zeros(2, 3, 4), torch.zeros(2, 5, 4))[1].shape == (2, 5, 4)


@pytest.mark.parametrize(
    ("projector", "own", "expected"),
    [
        (Pool(1), (5, 8, 6), (5,)), (Pool(1), (5, 8), (5,)), (Pool(3), (5, 8, 6), (5, 3, 3)), (Pool(3), (5, 8), (5, 3)),
        (Identity(), (5, 8), (5, 8)), (Places(), (5, 8, 6), (48, 5)), (Places(), (5, 8), (8, 5)),
        (Tokens(), (5, 8), (8, 5)), (Linear(5, 7), (5,), (7,)), (MLP(1, 5, 7), (5,), (7,)),
        (Chain(Pool(1), Linear(5, 7)), (5, 8, 6), (7,)),
    ],
)  # fmt: skip
def test_the_shape_that_is_promised_comes_out(projector, own, expected):
    assert projector.output_shape(own) == expected
    if projector.built or isinstance(projector, Chain):
        assert projector(torch.zeros(2, *own)).shape == (2, *expected)


def test_projectors_have_the_layers_that_were_asked_for():
    assert Linear(5, 7).map.bias is not None
    assert Linear(5, 7, bias=False).map.bias is None
    assert [type(layer).__name__ for layer in MLP(3, 5, 7).map] == ["Linear", "ReLU", "Linear"]
    assert MLP(3, 5, 7).map[0].weight.shape == (3, 5)
    for norm in (True, False):
        for own in ((5, 8), (5, 8, 6)):
            made = Conv1x1(norm=norm)
            made.build(own, (7, *own[1:]))
            assert len(made.map) == 1 + norm
            assert (made.map[0].bias is None) is norm
    for hidden in (0, -1):
        with pytest.raises(ProjectorError, match=f"at least 1, got {hidden}"):
            MLP(hidden)
    pool = Pool()
    assert pool.build((5, 8, 6), (9, 4, 3)) == (5, 4, 3)
    assert pool(torch.zeros(2, 5, 8, 6)).shape == (2, 5, 4, 3)
    pool = Pool()
    assert pool.build((5, 8, 6), (9,)) == (5,)
    assert (pool.size, pool.spatial) == (1, (1, 1))


def test_paraphrasers_keep_a_share_of_the_channels():
    for channels, rate, expected in ((8, 0.5, 4), (7, 0.5, 3), (3, 0.25, 1), (8, 1.0, 8)):
        made = Paraphraser(channels, rate=rate)
        assert made.factor_channels == expected
        assert made(torch.zeros(2, channels, 4, 4)).shape == (2, expected, 4, 4)
    assert set(shapes_of(made)) == {("Conv2d", (3, 3), (1, 1), (1, 1)), ("ConvTranspose2d", (3, 3), (1, 1), (1, 1))}
    slopes = {layer.negative_slope for layer in made.modules() if isinstance(layer, nn.LeakyReLU)}
    assert slopes == {0.1}
    torch.manual_seed(0)
    small = Paraphraser(2).eval()
    x = torch.randn(3, 2, 4, 4)
    with torch.no_grad():
        expected = (small.decoder(small.encoder(x)) - x).square().mean()
        assert float(small.reconstruction_loss(x)) == pytest.approx(float(expected))


def test_margins_are_means_of_negative_responses():
    generator = torch.Generator().manual_seed(0)
    for mean, std in ((0.0, 1.0), (-1.0, 2.0), (2.0, 1.5)):
        drawn = mean + std * torch.randn(400_000, generator=generator, dtype=torch.float64)
        found = ofd_margin(torch.tensor([mean], dtype=torch.float64), torch.tensor([std], dtype=torch.float64))
        assert float(found) == pytest.approx(float(drawn[drawn < 0].mean()), rel=0.01)
    rare = ofd_margin(torch.tensor([3.2, 3.0]), torch.tensor([1.0, 1.0]))  # tails of 0.0007 and 0.0013
    assert float(rare[0]) == -3.0
    assert float(rare[1]) > -1.0
    for std in (0.0, -1.0):
        with pytest.raises(ValueError, match="must be above 0, the smallest is"):
            ofd_margin(torch.zeros(2), torch.tensor([1.0, std]))


def test_singular_vectors_against_numpy():
    """The definition with numpy's decomposition, rank 1 and two levels of one sample."""
    import numpy as np

    rng = np.random.default_rng(0)
    student, teacher = ([rng.normal(size=(3, 2, 2)) for _ in range(2)] for _ in range(2))

    def parts(maps):
        _, values, vectors = np.linalg.svd(maps.reshape(3, 4).T)
        return values, vectors

    found = []
    for s, t in zip(student, teacher, strict=True):
        goal = parts(t)[1][0]
        goal = goal * np.sign(goal[np.abs(goal).argmax()])
        others = parts(s)[1]
        best = np.abs(others @ goal).argmax()
        own = others[best] * np.sign(others[best] @ goal)
        found.append((own, goal))
    (own, goal), (later, goal_later) = found
    kernels = [np.exp(-((b[:, None] - a[None]) ** 2) / 8.0) for a, b in ((own, later), (goal, goal_later))]
    expected = ((kernels[0] - kernels[1]) ** 2).sum()
    inputs = [[torch.from_numpy(m)[None] for m in side] for side in (student, teacher)]
    assert float(kdsvd(*inputs)) == pytest.approx(expected, rel=1e-9)


def test_a_direction_of_gaussian_divergences_is_checked():
    pair = (torch.zeros(1, 2), torch.zeros(2))
    with pytest.raises(ValueError, match="direction"):
        gaussian_kl(pair, pair, direction="backward")
