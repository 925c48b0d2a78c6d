"""The game of KDGAN: a classifier and a teacher propose labels, a discriminator tells them from the data's labels.

Wang, Zhang, Sun and Qi (NeurIPS 2018). It works on scores ``(B, K)`` alone; turns and networks are not its business.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from policykd.relaxed import concrete_log_sample, gumbel_noise, straight_through

Estimator = Literal["straight_through", "soft", "score"]


def game_value(labels: Tensor, classifier: Tensor, teacher: Tensor, discriminator: Tensor, *, share: float) -> Tensor:
    """Return the value ``E_u[log d] + a E_c[log(1 - d)] + (1 - a) E_t[log(1 - d)]`` without distillation ``(...)``.

    Args:
        labels: True distribution of labels ``(..., K)``.
        classifier: The classifier's ``(..., K)``.
        teacher: The teacher's ``(..., K)``.
        discriminator: Probability that a label is the data's ``(..., K)``.
        share: a, the classifier's share of the proposed labels.
    """
    mixture = share * classifier + (1.0 - share) * teacher
    return (labels * discriminator.log() + mixture * torch.log1p(-discriminator)).sum(-1)


def best_discriminator(labels: Tensor, classifier: Tensor, teacher: Tensor, *, share: float) -> Tensor:
    """Return the discriminator ``(..., K)`` that maximizes :func:`game_value`: ``p_u / (p_u + p_a)``."""
    return labels / (labels + share * classifier + (1.0 - share) * teacher)


def logit_distance(own: Tensor, other: Tensor) -> Tensor:
    """Return half the squared distance of scores ``(B, K)`` to another player's, which get no gradient, as a mean."""
    return 0.5 * (own - other.detach()).square().sum(-1).mean()


def draw_labels(scores: Tensor, samples: int, generator: Generator) -> Tensor:
    """Return labels ``(samples, B)`` drawn from ``softmax(scores)`` of scores ``(B, K)``."""
    noise = gumbel_noise((samples, *scores.shape), generator=generator, dtype=scores.dtype)
    return (scores + noise).argmax(-1)


def discriminator_loss(
    scores: Tensor, labels: Tensor, of_classifier: Tensor, of_teacher: Tensor, *, share: float
) -> Tensor:
    """Return what the discriminator minimizes: the negative value of the game at drawn labels.

    Args:
        scores: Its logits ``(B, K)``.
        labels: The data's labels ``(B,)``.
        of_classifier: Labels drawn by the classifier ``(S, B)``.
        of_teacher: Labels drawn by the teacher ``(S, B)``.
        share: The classifier's share.
    """

    def fooled(drawn: Tensor) -> Tensor:
        return F.softplus(scores.gather(1, drawn.T)).mean()  # -log(1 - d)

    real = F.softplus(-scores.gather(1, labels[:, None])).mean()  # -log d
    return real + share * fooled(of_classifier) + (1.0 - share) * fooled(of_teacher)


def proposal_loss(
    scores: Tensor,
    discriminator: Tensor,
    *,
    generator: Generator,
    samples: int = 1,
    temperature: float = 1.0,
    estimator: Estimator = "straight_through",
) -> Tensor:
    """Return ``E[log(1 - d)]`` of proposed labels, with a gradient for the scores of the player that proposes.

    Estimators: ``straight_through`` has one-hot samples with the gradient of Concrete ones; ``soft`` takes Concrete
    samples themselves; ``score`` is the score function with the mean over the samples as control variate (with one
    sample there is none). The first two are biased: the more, the higher the temperature.

    Args:
        scores: Scores of the player ``(B, K)``.
        discriminator: The discriminator's logits ``(B, K)``, detached here.
        generator: Draws the labels.
        samples: Labels per row.
        temperature: Temperature of the Concrete samples.
        estimator: See above.
    """
    rewards = -F.softplus(discriminator.detach())  # log(1 - d)
    noise = gumbel_noise((samples, *scores.shape), generator=generator, dtype=scores.dtype)
    if estimator == "score":
        drawn = (scores + noise).argmax(-1).T
        got = rewards.gather(1, drawn)
        base = got.mean(1, keepdim=True) if samples > 1 else torch.zeros_like(got)
        surrogate = ((got - base) * scores.log_softmax(1).gather(1, drawn)).mean()
        return surrogate - surrogate.detach() + got.mean()
    soft = concrete_log_sample(scores.log_softmax(1), noise, temperature=temperature).exp()
    chosen = straight_through(soft) if estimator == "straight_through" else soft
    return (chosen * rewards).sum(-1).mean()
