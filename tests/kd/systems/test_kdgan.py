"""The game against its tabular solution, its estimators against the exact gradient, and the experiment's arms."""

import math
from dataclasses import replace

import pytest
import torch

from policykd.errors import ConfigError
from policykd.kd.systems.kdgan import EXPERIMENT, KDGANRecipe, World, play, players
from policykd.kd.three_players import (
    best_discriminator,
    discriminator_loss,
    draw_labels,
    game_value,
    logit_distance,
    proposal_loss,
)

TINY = KDGANRecipe(contexts=3, labels=4, rounds=12, early=5, batch_size=16)
U, C, T = (torch.tensor(p, dtype=torch.float64) for p in ((0.6, 0.3, 0.1), (0.5, 0.25, 0.25), (0.7, 0.2, 0.1)))
BEST = best_discriminator(U, C, T, share=0.3)
EXACT = torch.tensor([0.009407, -0.048329, 0.038922], dtype=torch.float64)


def test_worked_values_of_the_game():
    assert BEST.tolist() == pytest.approx([0.483871, 0.582524, 0.408163], abs=1e-6)
    assert float(game_value(U, C, T, BEST, share=0.3)) == pytest.approx(-1.374446, abs=1e-6)
    mixture = 0.3 * C + 0.7 * T
    middle = (U + mixture) / 2
    jsd = 0.5 * ((U * (U / middle).log()).sum() + (mixture * (mixture / middle).log()).sum())
    assert float(jsd) == pytest.approx(0.00592412, abs=1e-8)
    assert float(game_value(U, C, T, BEST, share=0.3)) == pytest.approx(-math.log(4) + 2 * float(jsd))
    even = best_discriminator(U, U, U, share=0.3)
    assert float(game_value(U, U, U, even, share=0.3)) == pytest.approx(-1.386294, abs=1e-6)


def test_no_other_discriminator_is_better():
    generator = torch.Generator().manual_seed(0)
    best = float(game_value(U, C, T, BEST, share=0.3))
    for _ in range(50):
        other = torch.sigmoid(BEST.logit() + 0.3 * torch.randn(3, generator=generator, dtype=torch.float64))
        assert float(game_value(U, C, T, other, share=0.3)) < best


def estimates(count=200_000, **options):
    """Return mean and summed variance of one-sample gradients at the classifier's scores."""
    scores = C.log().expand(count, 3).clone().requires_grad_()
    loss = proposal_loss(scores, BEST.logit().expand(count, 3), generator=torch.Generator().manual_seed(1), **options)
    (gradient,) = torch.autograd.grad(loss, scores)
    own = gradient * count
    return own.mean(0), float(own.var(0).sum())


def test_the_exact_gradient():
    rewards = torch.log1p(-BEST)
    torch.testing.assert_close(C * (rewards - (C * rewards).sum()), EXACT, atol=1e-6, rtol=0)


def test_the_score_function_is_unbiased_and_a_baseline_lowers_its_variance():
    mean, variance = estimates(estimator="score")
    torch.testing.assert_close(mean, EXACT, atol=4e-3, rtol=0)
    assert variance == pytest.approx(0.305, rel=0.05)
    _, with_baseline = estimates(50_000, estimator="score", samples=20)
    assert with_baseline * 20 == pytest.approx(0.0096, rel=0.2)


@pytest.mark.parametrize(
    ("temperature", "mean", "variance"),
    [
        (0.1, (0.0092, -0.0485, 0.0393), 0.046),
        (0.5, (0.0082, -0.0444, 0.0362), 0.0051),
        (1.0, (0.0064, -0.0369, 0.0306), 0.0011),
    ],
)
def test_relaxed_samples_trade_bias_for_variance(temperature, mean, variance):
    for estimator in ("soft", "straight_through"):
        found, own = estimates(temperature=temperature, estimator=estimator)
        assert found.tolist() == pytest.approx(mean, abs=2e-3)
        assert own == pytest.approx(variance, rel=0.15)


def test_values_of_proposals_and_draws():
    generator = torch.Generator().manual_seed(0)
    scores, critic = C.log().expand(4000, 3), BEST.logit().expand(4000, 3)
    expected = float((C * torch.log1p(-BEST)).sum())
    for estimator in ("score", "straight_through"):
        value = proposal_loss(scores, critic, generator=generator, samples=20, estimator=estimator)
        assert float(value) == pytest.approx(expected, abs=2e-3)
    shares = torch.bincount(draw_labels(scores, 20, generator).flatten(), minlength=3) / 80_000
    assert shares.tolist() == pytest.approx(C.tolist(), abs=0.01)


def test_the_discriminators_loss_is_the_negative_value_at_its_labels():
    scores = torch.tensor([[0.3, -1.0, 0.2], [1.0, 0.0, -0.5]], dtype=torch.float64)
    d = scores.sigmoid()
    labels, first, second = torch.tensor([0, 2]), torch.tensor([[1, 1]]), torch.tensor([[2, 0], [0, 1]])
    real = (d[0, 0].log() + d[1, 2].log()) / 2
    of_c = ((1 - d[0, 1]).log() + (1 - d[1, 1]).log()) / 2
    of_t = ((1 - d[0, 2]).log() + (1 - d[0, 0]).log() + (1 - d[1, 0]).log() + (1 - d[1, 1]).log()) / 4
    found = discriminator_loss(scores, labels, first, second, share=0.3)
    torch.testing.assert_close(found, -(real + 0.3 * of_c + 0.7 * of_t))


def test_half_the_squared_distance_and_no_gradient_for_the_other():
    own = torch.tensor([[1.0, 0.0, -1.0]], requires_grad=True)
    other = torch.tensor([[2.0, 0.0, -2.0]], requires_grad=True)
    value = logit_distance(own, other)
    assert value.item() == 1.0
    value.backward()
    assert other.grad is None
    assert own.grad.tolist() == [[-1.0, 0.0, 1.0]]
    critic = torch.zeros(1, 3, requires_grad=True)
    proposal_loss(own, critic, generator=torch.Generator().manual_seed(0)).backward()
    assert critic.grad is None


def test_without_a_game_the_classifier_ends_at_the_logits_of_a_fixed_teacher():
    world = World(0, replace(TINY, rounds=400, student_lr=0.1))
    found = play(world, players(world, game=False, distills=True))
    teacher = world.teacher_scores.log_softmax(1)
    expected = float((world.truth.exp() * (world.truth - teacher)).sum(1).mean())
    assert found["distance"] == pytest.approx(expected, rel=1e-2)


def test_the_game_ends_near_the_truth_from_which_the_teacher_is_away():
    recipe = KDGANRecipe(contexts=2, labels=3, rounds=400, early=50, batch_size=60)
    world = World(1, recipe)
    biased = play(world, players(world, game=False, distills=True))["distance"]
    assert play(world, players(world, game=True, distills=True))["distance"] < 0.04 < biased


def test_a_small_cell_has_every_arm_and_repeats():
    cell = EXPERIMENT.run(0, TINY)
    EXPERIMENT.check_cell(cell)
    assert EXPERIMENT.run(0, TINY) == cell


@pytest.mark.parametrize("change", [{"early": 501}, {"early": 0}, {"share": 1.5}, {"samples": 1}])
def test_configurations_out_of_range_are_refused(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        KDGANRecipe(**change)
