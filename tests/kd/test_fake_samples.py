"""Density ratios, rejection and filters against worked values, and a ratio that turns one Gaussian into another."""

import numpy as np
import pytest
import torch
from scipy import stats

from policykd.errors import ConfigError
from policykd.kd.fake_samples import acceptance, keep_smallest, ratio_loss, rejection_sample
from policykd.kd.networks.generators import ImageGenerator, LabelCritic, VectorGenerator
from policykd.kd.training.conditional_gan import GanConfig, train_conditional_gan, train_ratio


def test_worked_values_of_the_ratio_loss():
    real, fake = torch.tensor([2.0, 1.0]).double(), torch.tensor([0.5, 1.5]).double()
    assert float(ratio_loss(real, fake)) == pytest.approx(-1.374877, abs=1e-6)
    assert float(ratio_loss(torch.ones(2).double(), torch.ones(2).double())) == pytest.approx(-1.313262, abs=1e-6)
    moved = float(ratio_loss(real, fake + 1.0) - ratio_loss(real, fake + 1.0, penalty=0.0))
    assert moved == pytest.approx(0.01 * 1.0)


def test_the_ratio_loss_is_smallest_at_the_true_ratio():
    """On two points with p = (.8, .2) and q = (.5, .5), the gradient in r vanishes at (1.6, .4)."""
    ratio = torch.tensor([1.6, 0.4], dtype=torch.float64, requires_grad=True)
    p, q = torch.tensor([0.8, 0.2]), torch.tensor([0.5, 0.5])
    value = (q * (ratio.sigmoid() * ratio - torch.nn.functional.softplus(ratio)) - p * ratio.sigmoid()).sum()
    torch.testing.assert_close(torch.autograd.grad(value, ratio)[0], torch.zeros(2, dtype=torch.float64))
    uneven = ratio.detach()[[0] * 5 + [1] * 5]  # the same distributions as equally many samples
    real = ratio.detach()[[0] * 8 + [1] * 2]
    assert float(ratio_loss(real, uneven, penalty=0.0)) == pytest.approx(float(value.detach()))


def test_acceptance():
    ratios = torch.tensor([0.2, 1.0, 0.5, 2.0])
    assert acceptance(ratios).tolist() == pytest.approx([0.1, 0.5, 0.25, 1.0])
    assert float(acceptance(ratios).mean()) == pytest.approx(0.4625)
    assert acceptance(ratios, 4.0).tolist() == pytest.approx([0.05, 0.25, 0.125, 0.5])
    shares = acceptance(ratios) / acceptance(ratios).sum()
    assert shares.tolist() == pytest.approx([0.054054, 0.270270, 0.135135, 0.540541], abs=1e-6)
    with pytest.raises(ConfigError, match="all density ratios are 0"):
        acceptance(torch.zeros(3))


def test_an_exact_ratio_gives_samples_of_the_target():
    """N(0, 1.5) becomes N(0.5, 1); Kolmogorov and Smirnov tell the samples from the first and not from the second."""

    def ratio(x):
        return torch.from_numpy(stats.norm(0.5, 1).pdf(x.numpy()) / stats.norm(0, 1.5).pdf(x.numpy()))

    def draw(count, generator):
        return 1.5 * torch.randn(count, generator=generator, dtype=torch.float64)

    found = rejection_sample(draw, ratio, 2000, torch.Generator().manual_seed(0), burn_in=5000).numpy()
    assert len(found) == 2000
    assert stats.kstest(found, stats.norm(0.5, 1).cdf).pvalue > 0.05
    assert stats.kstest(found, stats.norm(0, 1.5).cdf).pvalue < 1e-6
    with pytest.raises(ConfigError, match="were accepted"):
        rejection_sample(draw, ratio, 2000, torch.Generator().manual_seed(0), most=100)


def test_thresholds_are_quantiles_of_the_errors():
    errors = torch.tensor([0.05, 0.1, 0.2, 0.4, 3.0], dtype=torch.float64)
    assert float(torch.quantile(errors, 0.9)) == pytest.approx(1.96)
    assert float(torch.quantile(errors, 0.7)) == pytest.approx(0.36)
    assert keep_smallest(errors, 0.9).tolist() == [True] * 4 + [False]
    assert keep_smallest(errors, 0.7).tolist() == [True] * 3 + [False] * 2
    assert keep_smallest(errors, 1.0).tolist() == [True] * 4 + [False]
    assert not keep_smallest(torch.ones(4), 0.9).any()
    given, said = torch.tensor([10.0, 20, 30, 40, 50]), torch.tensor([11.0, 18, 33, 39, 30])
    kept = keep_smallest((given - said).abs(), 0.7)
    assert said[kept].tolist() == [11, 18, 39]


def test_every_class_has_its_own_threshold():
    errors = torch.rand(40, generator=torch.Generator().manual_seed(0))
    groups = torch.arange(40) % 4
    kept = keep_smallest(errors, 0.8, groups)
    assert torch.equal(keep_smallest(torch.where(groups == 1, 9 * errors, errors), 0.8, groups), kept)
    assert torch.equal(kept[groups == 2], keep_smallest(errors[groups == 2], 0.8))


def test_a_mixture_moves_the_total_variation_by_its_share():
    p, q = np.array([0.5, 0.5]), np.array([0.7, 0.3])
    distance = lambda a, b: 0.5 * np.abs(a - b).sum()  # noqa: E731
    assert distance(p, q) == pytest.approx(0.2)
    assert distance(p, 0.5 * p + 0.5 * q) == pytest.approx(0.1)


def two_points():
    """Return real samples on two labels, far apart and with little noise."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.eye(2).repeat_interleave(60, 0)
    x = torch.tensor([[2.0, 0.0], [-2.0, 1.0]]).repeat_interleave(60, 0)
    return x + 0.1 * torch.randn(120, 2, generator=generator), labels


def test_a_conditional_gan_finds_both_labels_and_resumes(tmp_path):
    x, labels = two_points()
    config = GanConfig(rounds=300, lr=5e-3)

    def trained(folder=None, rounds=300, resume=False):
        torch.manual_seed(1)
        make, critic = VectorGenerator(4, (16,), (2,), label_size=2), LabelCritic(2, 2, (32,))
        options = {"latent": 4, "seed": 0, "folder": folder, "resume": resume}
        train_conditional_gan(make, critic, x, labels, GanConfig(rounds=rounds, lr=5e-3), **options)
        return make

    make = trained()
    noise = torch.randn(200, 4, generator=torch.Generator().manual_seed(2))
    for number, center in enumerate([(2.0, 0.0), (-2.0, 1.0)]):
        made = make(noise, torch.eye(2)[[number] * 200]).detach()
        assert float((made.mean(0) - torch.tensor(center)).norm()) < 0.7
    trained(tmp_path, rounds=150)
    resumed = trained(tmp_path, resume=True)
    for one, other in zip(make.state_dict().values(), resumed.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert config.optimizer(0.1).betas == (0.5, 0.999)


def test_a_trained_ratio_is_larger_where_real_samples_are():
    x, labels = two_points()
    torch.manual_seed(0)
    ratio = LabelCritic(2, 2, (32,), positive=True)

    def draw(given, generator):
        return 3.0 * torch.randn(len(given), 2, generator=generator)

    train_ratio(ratio, draw, lambda z: z, x, labels, GanConfig(ratio_rounds=200, ratio_lr=5e-3), seed=0)
    with torch.no_grad():
        near, far = ratio(x, labels), ratio(-x, labels)
    assert float(near.mean()) > 3.0 > 1.0 > float(far.mean())
    assert float(far.min()) >= 0.0


def test_generators_keep_shape_and_range():
    torch.manual_seed(0)
    image = ImageGenerator(5, (1, 8, 8), width=4)
    made = image(torch.randn(3, 5))
    assert made.shape == (3, 1, 8, 8)
    assert 0 <= float(made.detach().min()) <= float(made.detach().max()) <= 1
    assert float(image.first.weight.detach().std()) == pytest.approx(0.02, rel=0.2)
    bounded = VectorGenerator(3, (8,), (2, 2), bounded=True)(100 * torch.randn(4, 3)).detach()
    assert bounded.shape == (4, 2, 2)
    assert 0 <= float(bounded.min()) <= float(bounded.max()) <= 1
    with pytest.raises(ConfigError, match="divisible by 4"):
        ImageGenerator(5, (1, 6, 8))
    with pytest.raises(ConfigError, match="multiples of 8"):
        LabelCritic(2, 2, (10,), positive=True)


@pytest.mark.parametrize("change", [{"rounds": 0}, {"batch_size": 1}, {"lr": 0.0}, {"blur": -1.0}, {"penalty": -1.0}])
def test_trainings_out_of_range_are_refused(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        GanConfig(**change)
