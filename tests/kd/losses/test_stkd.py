"""Mixing and the two readings of the virtual teacher against worked numbers."""

import numpy as np
import pytest
import torch
from torch import nn

from policykd.kd import functional as kf
from policykd.kd.losses.stkd import Mixing, draw_mixing, virtual_teacher

W = torch.tensor([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]], dtype=torch.float64)
X = torch.eye(2, dtype=torch.float64)


def teacher(x):
    return x @ W.T


def pair(share):
    """Sample 0 with itself at this share, the rest from sample 1, and the other way round."""
    shares = torch.tensor([[share], [1 - share]], dtype=torch.float64)
    return Mixing(shares, torch.tensor([[0, 1], [1, 0]]))


def random_mixing(seed=0, batch=7, **options):
    return draw_mixing(batch, generator=np.random.default_rng(seed), **options)


def test_known_mixture():
    x = torch.tensor([[1.0, 0.0, 2.0], [0.0, 4.0, 0.0]], dtype=torch.float64)
    assert pair(0.3).mix(x)[0].tolist() == pytest.approx([0.3, 2.8, 0.6])


def test_known_virtual_teacher_and_losses():
    mixing = pair(0.3)
    assert teacher(mixing.mix(X))[0].tolist() == pytest.approx([0.6, 1.4, 1.0])
    student = torch.zeros(1, 3, dtype=torch.float64)
    for reading, p, loss in (
        ("on_mix", [0.300610, 0.367165, 0.332225], 0.053200),
        ("mixed_targets", [0.303761, 0.369743, 0.326496], 0.053484),
    ):
        logits = virtual_teacher(teacher, X, mixing, temperature=4.0, reading=reading)[:1]
        assert (logits / 4).softmax(1)[0].tolist() == pytest.approx(p, abs=1e-6)
        assert float(kf.kd(student, logits, temperature=4.0)) == pytest.approx(loss, abs=1e-6)


def test_known_mixed_cross_entropy():
    labels = pair(0.3).mix(torch.eye(3, dtype=torch.float64)[:2])
    logits = torch.tensor([[0.5, 0.0, 0.0]], dtype=torch.float64)
    assert float(kf.ce(logits, labels[:1])) == pytest.approx(1.144377, abs=1e-6)


@pytest.mark.parametrize("reading", ["on_mix", "mixed_targets"])
def test_a_share_of_one_or_no_partner_is_plain_distillation(reading):
    x, plain = torch.randn(5, 2, dtype=torch.float64), torch.arange(5)
    one = Mixing(torch.tensor([[1.0], [0.0]]), torch.stack([plain, plain.flip(0)]))
    alone = Mixing(torch.tensor([[0.3], [0.7]], dtype=torch.float64), torch.stack([plain, plain]))
    for mixing in (one, alone):
        torch.testing.assert_close(mixing.mix(x), x)
        probabilities = (virtual_teacher(teacher, x, mixing, reading=reading) / 4.0).softmax(1)
        torch.testing.assert_close(probabilities, (teacher(x) / 4.0).softmax(1))
        labels = torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 1, 0])).double()
        torch.testing.assert_close(mixing.mix(labels), labels)


@pytest.mark.parametrize("reading", ["on_mix", "mixed_targets"])
def test_swapping_the_two_samples_changes_nothing(reading):
    x, labels = torch.randn(7, 2, dtype=torch.float64), torch.eye(7, dtype=torch.float64)
    mixing = random_mixing()
    partner = mixing.partners[1]
    # the same pairs told from the other side: order[i] is the sample whose partner is i
    swapped = Mixing(mixing.shares.flip(0), torch.stack([torch.arange(7), partner.argsort()]))
    torch.testing.assert_close(swapped.mix(x)[partner], mixing.mix(x))
    torch.testing.assert_close(swapped.mix(labels)[partner], mixing.mix(labels))
    logits = [virtual_teacher(teacher, x, m, reading=reading) for m in (swapped, mixing)]
    torch.testing.assert_close(logits[0][partner], logits[1])


def test_a_student_equal_to_the_teacher_has_no_loss_on_the_mixture_only():
    x, mixing = torch.randn(7, 2, dtype=torch.float64) * 3, random_mixing()
    student = teacher(mixing.mix(x))
    assert float(kf.kd(student, virtual_teacher(teacher, x, mixing))) == pytest.approx(0.0, abs=1e-12)
    gap = kf.kd(student, virtual_teacher(teacher, x, mixing, reading="mixed_targets"))
    assert float(gap) > 1e-3


@pytest.mark.parametrize("options", [{}, {"per_sample": True}, {"images": 3}, {"images": 4, "per_sample": True}])
def test_mixing_keeps_the_total_and_is_reproducible(options):
    first, second = random_mixing(**options), random_mixing(**options)
    assert torch.equal(first.shares, second.shares)
    assert torch.equal(first.partners, second.partners)
    assert not torch.equal(first.shares, random_mixing(seed=1, **options).shares)
    assert first.shares.shape == (options.get("images", 2), 7 if options.get("per_sample") else 1)
    labels = first.mix(torch.nn.functional.one_hot(torch.arange(7) % 4).float())
    torch.testing.assert_close(labels.sum(1), torch.ones(7))
    assert (first.partners.sort(1).values == torch.arange(7)).all()


def test_mixed_probabilities_against_a_loop():
    x, mixing = torch.randn(6, 3, 2), random_mixing(batch=6, images=3, per_sample=True)
    network = nn.Sequential(nn.Flatten(), nn.Linear(6, 4))
    p = (network(x) / 2).softmax(1).detach()
    logits = virtual_teacher(network, x, mixing, temperature=2.0, reading="mixed_targets")
    assert not logits.requires_grad
    for i in range(6):
        rows = [(float(mixing.shares[j, i]), int(mixing.partners[j, i])) for j in range(3)]
        torch.testing.assert_close((logits[i] / 2).softmax(0), sum(share * p[row] for share, row in rows))
        torch.testing.assert_close(mixing.mix(x)[i], sum(share * x[row] for share, row in rows))


def test_beta_weights_have_the_right_spread():
    shares = random_mixing(batch=20_000, concentration=0.4, per_sample=True).shares[0].double()
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(shares.var()) == pytest.approx(0.25 / 1.8, rel=0.03)  # Beta(a, a): 1 / (4 (2 a + 1))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="concentration must be above 0"):
        random_mixing(concentration=0.0)
    with pytest.raises(ValueError, match="at least 2 images"):
        random_mixing(images=1)
    with pytest.raises(ValueError, match="a mixing of 7 samples cannot mix 5"):
        random_mixing().mix(torch.zeros(5, 2))
    with pytest.raises(ValueError, match="reading must be one of"):
        virtual_teacher(teacher, X, pair(0.5), reading="both")
