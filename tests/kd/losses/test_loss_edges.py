"""Losses with layers, choices of rows and options at their edges, against values written out."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from policykd.errors import ConfigError
from policykd.kd import functional as kf
from policykd.kd import losses, options
from policykd.kd.losses import _negatives as negatives
from policykd.kd.losses import sskd as views
from policykd.kd.losses.cc import correlation
from policykd.kd.losses.ctkd import curriculum
from policykd.kd.losses.selective_kd import error_level, select_rows


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_options_at_their_bounds():
    options.above_zero("x", 1e-12)
    options.finite_above_zero("x", 1e-12)
    for value in (0.0, -1.0, math.nan):
        for check in (options.above_zero, options.finite_above_zero):
            with pytest.raises(ConfigError, match="x must be"):
                check("x", value)
    options.above_zero("x", math.inf)
    with pytest.raises(ConfigError, match="finite and above 0, got inf"):
        options.finite_above_zero("x", math.inf)
    for zero in (True, False):
        for one in (True, False):
            check = options.zero_to_one(with_zero=zero, with_one=one)
            check("x", 0.5)
            text = rf"x must be in \{'[' if zero else '('}0, 1\{']' if one else ')'}, got"
            for value, allowed in ((0, zero), (1, one), (-0.1, False), (1.1, False), (math.nan, False)):
                if allowed:
                    check("x", value)
                else:
                    with pytest.raises(ConfigError, match=text):
                        check("x", value)


def test_levels_of_error_count_the_classes_in_front():
    scores = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [0.0, 5.0, 5.0]])
    assert error_level(scores, torch.tensor([0, 2, 0, 2, 2])).tolist() == [0, 2, 0, 2, 1]
    levels = torch.tensor([2, 0, 1, 0, 1, 3])
    for share, kept in (
        (0.0, [1, 3]),
        (0.25, [1, 2, 3]),
        (0.49, [1, 2, 3]),
        (0.5, [1, 2, 3, 4]),
        (1.0, list(range(6))),
    ):
        assert select_rows(levels, share).tolist() == kept
    for share in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"share must be in \[0, 1\]"):
            select_rows(levels, share)
    s, t = draw(3, 4), draw(3, 4, seed=1)
    wrong = t.argmin(1)
    for reduction in ("none", "mean", "sum"):
        nothing = kf.selective_kd(s, t, wrong, share=0.0, reduction=reduction)
        assert nothing.numel() == (0 if reduction == "none" else 1)
        assert float(nothing.sum()) == 0.0
    torch.testing.assert_close(kf.selective_kd(s, t, wrong, share=1.0), kf.kd(s, t))


def test_views_of_images():
    values = torch.arange(16.0).reshape(8, 2) + 1.0
    normal, rotated = views.split_views(values)
    assert torch.equal(normal, values[[0, 4]])
    assert torch.equal(rotated, values[[1, 2, 3, 5, 6, 7]])
    unit = values / values.norm(dim=1, keepdim=True)
    similar = views.view_similarity(values)
    torch.testing.assert_close(similar, unit[[1, 2, 3, 5, 6, 7]] @ unit[[0, 4]].T)
    assert views.originals(similar).tolist() == [0, 0, 0, 1, 1, 1]
    right = torch.tensor([0, 0, 0, 1, 1, 1])
    torch.testing.assert_close(views.head_loss(similar), F.cross_entropy(similar, right))
    with pytest.raises(ValueError, match="6 rows are not a whole number of images with 4 views"):
        views.split_views(values[:6])


def test_kernels_of_correlation():
    f = F.normalize(draw(4, 3), dim=1)
    s = f @ f.T
    g = 0.4
    taylor = math.exp(-2 * g) * (1 + 2 * g * s + (2 * g * s) ** 2 / 2 + (2 * g * s) ** 3 / 6)
    torch.testing.assert_close(correlation(f, gamma=g, order=3), taylor)
    torch.testing.assert_close(correlation(f, gamma=g, kernel="rbf"), torch.exp(-g * torch.cdist(f, f) ** 2))
    torch.testing.assert_close(correlation(3 * f, kernel="bilinear", normalize=False), 9 * s)
    torch.testing.assert_close(correlation(3 * f, kernel="bilinear"), s)
    own, other = draw(3, 2), draw(3, 2, seed=1)
    gap = (own - other).abs()
    expected = torch.tensor([(gap[0] * gap[1]).sum(), (gap[1] * gap[2]).sum(), 0.0]) * 1.5
    torch.testing.assert_close(kf.cc(own, other, variant="adjacent", reduction="none"), expected)
    assert float(kf.cc(own[:2], other[:2], variant="adjacent")) == pytest.approx(float((gap[0] * gap[1]).sum()))
    with pytest.raises(ValueError, match="needs two samples, got 1"):
        kf.cc(own[:1], other[:1], variant="adjacent")
    with pytest.raises(ConfigError, match="the Taylor kernel needs normalize=True"):
        kf.cc(own, other, normalize=False)


def test_the_curriculum_of_a_temperature():
    for epoch, expected in (
        (-1, 0.0),
        (0, 0.0),
        (2.5, 0.5 - 0.5 * math.cos(math.pi / 4)),
        (5, 0.5),
        (10, 1.0),
        (99, 1.0),
    ):
        assert curriculum(epoch) == pytest.approx(expected)
    made = losses.CTKD(lowest=2.0, span=4.0, start=0.0, strength=0.5)
    assert float(made.temperature.detach()) == 4.0
    s, t = draw(3, 4), draw(3, 4, seed=1)
    made(s, t).backward()
    plain = torch.zeros(1, requires_grad=True)
    loss = kf.ctkd(s, t, 2.0 + 4.0 * torch.sigmoid(plain))
    loss.backward()
    torch.testing.assert_close(made.level.grad, -0.5 * plain.grad)
    torch.testing.assert_close(loss.detach(), kf.kd(s, t, temperature=4.0))
    torch.testing.assert_close(kf.ctkd(s, t, torch.tensor([4.0]), scale_t2=False), kf.kd(s, t, temperature=4.0) / 16)
    for bad in (torch.tensor([0.0]), torch.tensor([-1.0]), torch.ones(2)):
        with pytest.raises(ValueError, match="one value above 0 of shape"):
            kf.ctkd(s, t, bad)


def test_attention_between_levels():
    made = losses.SemCKD([3], [2, 4], batch=5, width=6, softness=2.0).eval()
    own, others = [draw(4, 3, 4, 4)], [draw(4, 2, 4, 4, seed=1), draw(4, 4, 2, 2, seed=2)]

    def rows(x):
        flat = x.flatten(1)
        return F.pad(F.normalize(flat @ flat.T, dim=1), (0, 1))

    with torch.no_grad():
        query = made.queries[0](rows(own[0]))
        keys = [key(rows(x)) for key, x in zip(made.keys, others, strict=True)]
        products = torch.stack([(query * key).sum(1) for key in keys], 1)
        found = made.attention(own, others)
        torch.testing.assert_close(found[:, 0], (products / 2.0).softmax(1))
        assert (made.queries[0].first.in_features, made.queries[0].first.out_features) == (5, 12)
        assert made(own, others).dim() == 0
        made.attention([draw(5, 3, 2, 2)], [draw(5, 2, 2, 2), draw(5, 4, 2, 2)])
        with pytest.raises(ValueError, match="a batch of 6 samples, but SemCKD was built with batch=5"):
            made.attention([draw(6, 3, 2, 2)], [draw(6, 2, 2, 2), draw(6, 4, 2, 2)])
        with pytest.raises(ValueError, match="built for 1 student and 2 teacher levels, got 1 and 1"):
            made(own, others[:1])
    for given in (([], [2]), ([2], [])):
        with pytest.raises(ConfigError, match="at least one student and one teacher level"):
            losses.SemCKD(*given)
    pair = [torch.zeros(2, 3)], [torch.ones(2, 3)]
    assert float(kf.semckd(*pair, torch.tensor([[[0.5]], [[1.0]]]))) == 0.75
    for shape in ((2, 1), (2, 1, 2), (1, 1, 1)):
        with pytest.raises(ValueError, match="attention"):
            kf.semckd(*pair, torch.ones(shape))


def test_modules_with_projectors_or_without():
    x = draw(6, 3)
    standard = losses.SRD.standardize(x)
    torch.testing.assert_close(standard, F.batch_norm(x, None, None, training=True))
    assert isinstance(losses.SRD().projector, nn.Identity)
    made = losses.SRD(3, 5)
    assert (made.projector.bias, tuple(made.projector.weight.shape)) == (None, (5, 3))
    for one in ({"student_dim": 3}, {"teacher_dim": 3}):
        with pytest.raises(ConfigError, match="give both student_dim and teacher_dim, or neither"):
            losses.SRD(**one)
    torch.testing.assert_close(kf.srd(x, x, eps=0.5), torch.tensor(math.log(0.5)))
    assert isinstance(losses.SimKD().projector, nn.Identity)
    for factor, middle in ((2, 4), (3, 2), (9, 1)):
        made = losses.SimKD(3, 8, factor=factor)
        assert [block[0].out_channels for block in made.projector] == [middle, middle, 8]
        assert [block[0].kernel_size for block in made.projector] == [(1, 1), (3, 3), (1, 1)]
    for one in ({"student_channels": 3}, {"teacher_channels": 3}):
        with pytest.raises(ConfigError, match="give both student_channels and teacher_channels"):
            losses.SimKD(**one)
    classifier, maps = nn.Linear(8, 2), draw(2, 3, 4, 4)
    made = made.eval()
    with torch.no_grad():
        expected = classifier(made.projector(maps).mean((2, 3)))
        torch.testing.assert_close(made.predict(maps, classifier), expected)
    for one in ({"student_shape": (3, 4, 4)}, {"teacher_shape": (3, 4, 4)}):
        with pytest.raises(ConfigError, match="give both student_shape and teacher_shape"):
            losses.FitNet(**one)
    made = losses.KTA(3, 8, rate=0.25)
    assert made.adapter[0].out_channels == 2
    assert not any(parameter.requires_grad for parameter in made.paraphraser.parameters())
    assert not made.train().paraphraser.training
    assert made.adapter.training


def test_words_of_the_generator_of_negatives():
    """The finalizer of splitmix64 in Python's integers, and uniform draws that never hit the own class."""
    mask = (1 << 64) - 1

    def finalized(x):
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & mask
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & mask
        return x ^ (x >> 31)

    numbers = [0, 1, -1, 2**62, -(2**63), 123456789]
    found = negatives.scramble(torch.tensor(numbers)).tolist()
    assert [value & mask for value in found] == [finalized(value & mask) for value in numbers]
    assert negatives._shift_right(torch.tensor([-1]), 1).tolist() == [2**63 - 1]
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    made = negatives.NegativeDraw(6, labels, seed=3)
    index = torch.arange(6)
    drawn = made(index, torch.zeros(6), 3000)
    for own in range(6):
        others = [other for other in range(6) if labels[other] != labels[own]]
        counts = torch.bincount(drawn[own], minlength=6)[others] / 3000
        assert counts.sum() == pytest.approx(1.0)
        assert (counts - 1 / len(others)).abs().max() < 0.04
    plain = negatives.NegativeDraw(3)
    assert set(plain(torch.tensor([1]), torch.tensor([0]), 50)[0].tolist()) == {0, 2}
    assert not torch.equal(made(index, torch.ones(6), 20), made(index, torch.zeros(6), 20))
    assert torch.equal(made(index[:2], torch.ones(2), 5), made(index, torch.ones(6), 20)[:2, :5])
    for n, given, message in ((1, None, "at least 2 samples, got n_data=1"), (3, torch.zeros(2), r"shape \(3,\)"),
                              (3, torch.zeros(3), "all samples have one class")):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            negatives.NegativeDraw(n, given)


def test_banks_of_contrastive_distillation():
    made = losses.CRD(4, 3, 5, dim=2, negatives=3, momentum=0.25, normalizer="paper", seed=1)
    bound = 1 / math.sqrt(2 / 3)
    assert 0.5 * bound < float(made.student_bank.abs().max()) <= bound
    assert made.log_z.tolist() == [0.0, 0.0]
    s, t, index = draw(3, 3), draw(3, 5, seed=1), torch.tensor([2, 0, 2])
    before = made.student_bank.clone()
    made.eval()(s, t, index)
    made.commit()
    assert torch.equal(made.student_bank, before), "nothing is noted in eval mode"
    made.train()(s, t, index)
    assert torch.equal(made.student_bank, before)
    own, _ = made.embed(s, t)
    made.commit()
    for row, last in ((2, 2), (0, 1)):
        expected = F.normalize(0.25 * before[row] + 0.75 * own[last].detach(), dim=0)
        torch.testing.assert_close(made.student_bank[row], expected)
    assert torch.equal(made.student_bank[[1, 3]], before[[1, 3]])
    assert made.visits.tolist() == [1, 0, 1, 0]
    for bad, message in ((torch.tensor([0, 1, 4]), r"in \[0, 3\], got up to 4"), (torch.tensor([0, 1, -1]), "got up"),
                         (torch.tensor([0, 1]), r"index must be integers \(3,\)"),
                         (torch.zeros(3), r"index must be integers \(3,\), got torch.float32")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            made(s, t, bad)
    fixed = losses.CRD(4, 3, 5, dim=2, negatives=3, temperature=0.5)
    chosen = torch.tensor([[0, 1, 3], [1, 2, 3], [0, 1, 3]])
    fixed.calibrate(s, t, index, chosen)
    with torch.no_grad():
        anchors = fixed.embed(s, t)
        rows = torch.cat([index[:, None], chosen], 1)
        for side, (anchor, bank) in enumerate(zip(anchors, (fixed.teacher_bank, fixed.student_bank), strict=True)):
            scores = (anchor[:, None] * bank[rows]).sum(2) / 0.5
            assert float(fixed.log_z[side]) == pytest.approx(math.log(float(scores.exp().mean()) * 4), rel=1e-5)
