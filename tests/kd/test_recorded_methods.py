"""The building blocks of the systems on small inputs, with options other than their defaults: recorded values.

Their meaning is tested next to each of them; here is what a rewrite must reproduce, their ranges included.
"""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from policykd.kd import adaptive_confidence as confidence
from policykd.kd import (
    adaptive_mixing,
    attacks,
    calibration,
    data_free,
    domains,
    fake_samples,
    gaussian_processes,
    hashing,
    stochastic_teachers,
    three_players,
)
from policykd.kd import density_ratios as ratios
from policykd.kd import hard_alignment as alignment
from policykd.kd import mask_explanations as masks
from policykd.kd.data.angular_field import angular_field
from policykd.kd.data.patches import PatchConfig, change_colors, draw_crops, read_patches
from policykd.kd.networks import MLP
from policykd.kd.tasks import Split
from policykd.kd.training import bilevel, cutmix
from policykd.kd.training.conditional_gan import GanConfig, train_conditional_gan, train_ratio
from policykd.kd.training.distilled_data import DistilledConfig, distill_data
from policykd.kd.training.players import Player, Players
from policykd.kd.training.prediction_memory import PredictionMemory, softened_targets


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(*widths):
    torch.manual_seed(0)
    layers = [part for one, other in itertools.pairwise(widths) for part in (nn.Linear(one, other), nn.Tanh())]
    return nn.Sequential(*layers[:-1]).double()


def gradient(value, *leaves):
    return torch.autograd.grad(value, leaves)


STUDENT, TEACHERS, LABELS = 2 * drawn(8, 4), 2 * drawn(3, 8, 4, seed=1), torch.tensor([0, 1, 2, 3, 3, 0, 1, 1])
TEACHER = TEACHERS[0]


def of_confidence():
    return {
        "chosen": confidence.most_confident(TEACHERS, LABELS),
        "loss": confidence.adaptive_confidence(STUDENT, TEACHERS, LABELS, temperature=2.5),
        "stages": [[confidence.teachers_of_stage(e, 7, 3) for e in range(7)]],
        "vectors": confidence.class_vectors(4, 6, 3),
    }


def of_adaptive_mixing():
    gradients = adaptive_mixing.loss_gradients(STUDENT, LABELS, TEACHERS, temperature=2.5)
    weights, features, held = drawn(8, 4, seed=2).abs(), drawn(8, 3, seed=3), (STUDENT[:5] - 1.0, drawn(5, 3, seed=4))
    adapted = adaptive_mixing.MixingWeights(9, 3, start=0.7)
    adapted.values = adapted.values.double()
    rows = torch.arange(8)
    options = {"step": 0.3, "rate": 5.0, "updates": 3}
    adapted.refine(rows, gradients, features, *held, LABELS[:5], **options)
    return {
        "gradients": gradients,
        "ahead": adaptive_mixing.logits_ahead(weights, gradients, features, *held, step=0.3),
        "slope": adaptive_mixing.mixing_gradient(weights, gradients, features, *held, LABELS[:5], step=0.3),
        "weights": adapted.values,
        "edges": [adaptive_mixing.MixingWeights(1, 2, start=start).values for start in (0.0, 1.0)],
    }


def of_attacks():
    net, x = network(3, 5, 4).train(), drawn(8, 3).sigmoid()
    found = {"fgsm": attacks.fgsm(net, x, LABELS, epsilon=0.2), "gradient": attacks.input_gradient(net, x, LABELS)}
    options = {"epsilon": 0.2, "step": 0.07, "steps": 4, "valid": (0.1, 0.8)}
    found["pgd"] = attacks.pgd(net, x, LABELS, **options)
    return found | {"from elsewhere": attacks.pgd(net, x, LABELS, **options, generator=seeded(3)), "mode": net.training}


def of_calibration():
    edges = torch.tensor([0.0, 0.25, 0.3, 0.5, 0.75, 1.0, 0.99])
    return {
        "temperature": [calibration.fit_temperature(STUDENT + 3 * nn.functional.one_hot(LABELS, 4), LABELS)],
        "reliability": calibration.reliability(edges, torch.tensor([0, 1, 1, 0, 1, 1, 0]), bins=4),
    }


def of_data_free():
    norms = nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3), nn.ReLU(), nn.BatchNorm1d(3)).double().eval()
    for place, value in enumerate(norms.state_dict().values()):
        if value.is_floating_point():
            value.copy_(drawn(*value.shape, seed=place).abs() + 0.1)
    statistics = data_free.NormStatistics(norms)
    with statistics.attached():
        norms(drawn(5, 2, 6, seed=9))
        norms(drawn(5, 2, 6, seed=3))
    ages = [data_free.age_after(n, start=0.5, growth=0.2) for n in (0, 3)]
    weights = {k: data_free.paced_weights(torch.tensor([0.1, 0.5, 0.9]), 0.5, k) for k in ("hard", "soft", "log")}
    schedule = {"begin": 0.25, "end": 0.8, "step": 0.5, "start": 0.1}
    return {
        "statistics": statistics.value(),
        "distance": data_free.statistics_distance(drawn(5, 3, 4), drawn(3, seed=1), drawn(3, seed=2).abs()),
        "certainty": data_free.certainty_loss(TEACHER),
        "balance": [data_free.balance_entropy(TEACHER, temperature=2.0), data_free.balance_entropy(1e3 * TEACHER[:1])],
        "adversary": [data_free.adversarial_loss(STUDENT, TEACHER, temperature=2.0, kind=k) for k in ("kl", "js")],
        "paced": weights | {"ages": ages},
        "weights": [data_free.adversarial_weight(epoch, 10, **schedule) for epoch in range(1, 11)],
        "loss": [data_free.paced_loss(STUDENT, TEACHER, 0.7, temperature=2.0, per_sample=p) for p in (True, False)],
    }


def of_domains():
    features, persons = drawn(9, 3).requires_grad_(), torch.tensor([0, 0, 1, 1, 1, 4, 2, 2, 0])
    found = {least: domains.domain_mmd(features, persons, least=least) for least in (1, 2, 3)}
    fixed = domains.domain_mmd(features, persons, widths=(0.5, 2.0))
    return {
        "mmd": found,
        "fixed": [fixed, *gradient(fixed, features)],
        "too few": [domains.domain_mmd(features, persons, least=4)],
        "widths": [domains.median_widths(features, (0.5, 3.0)), domains.median_widths(features[:1])],
        "equal": domains.median_widths(torch.zeros(4, 2)),
        "kernel": domains.gaussian_kernel(features, features[:4], (0.7, 1.5)),
        "reversed": gradient(domains.reverse_gradient(features, 0.3).square().sum(), features),
        "ramp": [domains.domain_ramp(progress) for progress in (0.0, 0.2, 1.0)],
    }


def of_fake_samples():
    errors, groups = drawn(9).abs(), torch.tensor([0, 1, 1, 0, 2, 2, 2, 1, 0])
    kept = fake_samples.rejection_sample(
        lambda n, rng: torch.rand(n, 1, generator=rng), lambda x: x[:, 0], 7, seeded(1), burn_in=5, most=400
    )
    return {
        "loss": fake_samples.ratio_loss(drawn(5), drawn(6, seed=1), penalty=0.3),
        "accepted": [fake_samples.acceptance(errors), fake_samples.acceptance(errors, 4.0)],
        "kept": kept,
        "small": fake_samples.keep_smallest(errors, 0.5),
        "small of a group": fake_samples.keep_smallest(errors, 0.6, groups),
    }


def of_processes():
    x = drawn(7, 2).numpy()
    kernel = np.exp(-((x[:, None] - x[None]) ** 2).sum(-1))
    rows, soft = np.array([5, 0, 3]), np.array([0.9, 0.3, 0.0])
    prior, far = gaussian_processes.Belief.prior(kernel), np.array([-800.0, -5.0, -0.04, -1e-4, 0.0, 0.03, 2.0, 800.0])
    seen = prior.observe(rows, np.array([1.0, -2.0, 0.5]), 0.2)
    found = {"seen": [seen.mean, seen.covariance, seen.variance]}
    for name in ("BERNOULLI", "CONTINUOUS_BERNOULLI"):
        likelihood = getattr(gaussian_processes, name)
        laplace = gaussian_processes.laplace(
            25 * kernel[:3, :3], soft, mean=np.array([9.0, -9.0, 4.0]), likelihood=likelihood, repeats=2.5
        )
        belief = seen.classify(rows, soft, likelihood=likelihood, repeats=3.0)
        parts = [laplace.mode, laplace.gradient, laplace.curvature, laplace.log_evidence]
        found[name] = [*parts, belief.mean, belief.covariance, belief.probabilities(likelihood, nodes=9)]
        found[f"{name} far"] = [likelihood.mean(far), likelihood.variance(far), likelihood.log_density(0.3, far)]
    found["normalizer"] = gaussian_processes.CONTINUOUS_BERNOULLI.log_normalizer(far)
    found["steps"] = gaussian_processes.data_centric_targets(kernel, x[:, 0], (0.3, 0.8))
    return found | {"evidence": gaussian_processes.log_evidence(kernel, x[:, 0], 0.3)}


def of_density_ratios():
    rng, y = np.random.default_rng(0), np.arange(12) % 3
    probabilities = np.abs(drawn(12, 3).numpy())
    probabilities /= probabilities.sum(1, keepdims=True)
    weights = ratios.independence_weights(probabilities, y, smallest=0.2, largest=0.6)

    def fit(z, labels):
        return lambda other: np.stack([other + labels.mean(), other * z.sum(), other**2], 1)

    torch.manual_seed(0)
    critic = ratios.Critic(2, 1, (5, 4)).double()
    triples = (drawn(12, 2), torch.from_numpy(y), drawn(12, 1, seed=1), torch.from_numpy(weights))
    loss = ratios.critic_loss(critic, *triples, generator=seeded(2))
    return {
        "fitted": ratios.cross_fitted(fit, np.arange(12.0), y, folds=3, rng=rng),
        "weights": weights,
        "effective": ratios.effective_samples(weights),
        "loss": [loss, *gradient(loss, *critic.parameters())],
        "information": ratios.information(critic, *triples),
    }


def of_hashing():
    values, labels = drawn(11, 13).numpy(), np.arange(11) % 3
    codes = hashing.pack_codes(values)
    distances = hashing.hamming_distances(codes[:4], codes)
    within = {
        f"{radius} {alone}": hashing.precision_within(codes, labels, codes, labels, radius=radius, exclude_self=alone)
        for radius in (0, 4, 5)
        for alone in (True, False)
    }
    return {
        "codes": codes,
        "distances": distances,
        "order": hashing.ranked(distances),
        "order of others": hashing.ranked(distances[:, :4], exclude_self=True),
        "precision": hashing.average_precision(distances < 6),
        "mean": [hashing.mean_average_precision(codes, labels, codes, labels, exclude_self=e) for e in (True, False)],
        "within": within,
    }


class Clock:
    """Logits of staying that depend on the token and on the time spent."""

    def logits(self, state, token):
        return state[0] - 0.8 * token

    def advance(self, state, token):
        return (0.6 - state[0] + 0.1 * token,)


def of_alignment():
    stay, emission = drawn(3, 5, 4).requires_grad_(), drawn(3, 5, 4, seed=1).requires_grad_()
    value = alignment.alignment_log_likelihood(stay, emission, torch.tensor([2, 4, 1]), torch.tensor([5, 4, 3]))
    found = {"likelihood": [value, *gradient(value.sum(), stay, emission)]}
    tokens, state = torch.tensor([3, 1, 4]), (torch.tensor([[0.2], [1.0], [-0.5]]),)
    for width, least in ((1, 1), (3, 1), (3, 6), (8, 0)):
        options = {"most_frames": 9, "least_frames": least, "width": width}
        paths, score = alignment.search_alignments(Clock(), state, tokens, **options)
        found[f"{width} {least}"] = [paths, score, alignment.durations(paths, 4)]
    rng = seeded(1)
    options = {"noise": lambda shape: torch.randn(shape, generator=rng), "temperature": 0.5, "penalty": 7.0, "width": 2}
    return found | {"noisy": alignment.search_alignments(Clock(), state, tokens, most_frames=4, **options)}


def of_masks():
    net, data, x = network(5, 4, 3), drawn(12, 5), drawn(5, seed=1)
    groups, mask = torch.tensor([0, 1, 1, 2, 0]), (drawn(6, 5, seed=2) > 0).double()
    fills = {
        "constant": masks.ConstantFill(data.mean(0)),
        "independent": masks.IndependentFill(data.mean(0), data.std(0)),
        "gaussian": masks.GaussianFill.fit(data),
        "neighbors": masks.NeighborFill(data, 4),
    }
    found = {}
    for name, fill in fills.items():
        options = {"weight": 0.2, "steps": 3, "draws": 4, "rate": 0.4, "temperature": 0.3, "scale": 0.5}
        relevance = masks.relevance(net, x, fill, groups, generator=seeded(4), **options)
        hidden = masks.distortion(net, x, mask[:1], fill, draws=5, generator=seeded(3))
        found[name] = [fill(x, mask, seeded(5)), relevance, hidden]
    far = masks.relevance(net, x, fills["constant"], groups, weight=90.0, generator=seeded(4), steps=9, rate=5.0)
    slope = masks.gradient_relevance(net, x, data.mean(0), groups)
    return found | {"far": far, "gradient": slope, "largest": masks.largest_mask(slope, groups, 2)}


def of_stochastic_teachers():
    given, mixed = torch.tensor([0.5, 0.2, 0.3]).double(), {}
    for multilabel in (True, False):
        options = {"temperature": 3.0, "multilabel": multilabel}
        mixed[multilabel] = stochastic_teachers.mixed_teachers_kd(STUDENT, TEACHERS, given, **options)
    orders = stochastic_teachers.PermutedWeights((0.5, 0.2, 0.3), seed=2)
    parts = [stochastic_teachers.without_one_fold(11, 3, 2), stochastic_teachers.random_parts(11, 3, 0.4, 2)]
    return {"mixed": mixed, "orders": [orders.at(step) for step in range(4)], "parts": parts}


def of_three_players():
    labels, one, other = (part.softmax(-1) for part in (STUDENT, TEACHER, TEACHERS[1]))
    scores, judge, indices = STUDENT.clone().requires_grad_(), TEACHERS[2], torch.tensor([[1, 0, 2, 3, 1, 1, 0, 2]])
    found = {
        "value": three_players.game_value(labels, one, other, judge.sigmoid(), share=0.3),
        "best": three_players.best_discriminator(labels, one, other, share=0.3),
        "distance": three_players.logit_distance(STUDENT, TEACHER),
        "labels": three_players.draw_labels(STUDENT, 3, seeded(1)),
        "judge": three_players.discriminator_loss(judge, LABELS, indices, 3 - indices, share=0.3),
    }
    for estimator in ("straight_through", "soft", "score"):
        for samples in (1, 3):
            options = {"samples": samples, "temperature": 0.7, "estimator": estimator}
            loss = three_players.proposal_loss(scores, judge, generator=seeded(2), **options)
            found[f"{estimator} {samples}"] = [loss, *gradient(loss, scores)]
    return found


def of_pictures():
    picture = drawn(3, 20, 28).sigmoid().float()
    config = PatchConfig(side=3, zoom=40.0, aspect=2.0, rotation=50.0, shear=20.0, jitter=0.6, strength=0.7)
    crops = draw_crops(20, 28, 9, config, 4, worker=1)
    patches = read_patches(picture, crops, 3)
    boxes = [cutmix.cut_box(9, kept, center) for kept in (0.0, 0.3, 1.0) for center in ((0, 4), (8, 2))]
    return {
        "crops": [crops.center, crops.size, crops.turn],
        "patches": patches,
        "colors": change_colors(patches, config, 4),
        "boxes": boxes,
        "drawn": [cutmix.draw_box(12, np.random.default_rng(seed), concentration=0.8) for seed in range(4)],
        "mixed": cutmix.cutmix(drawn(4, 2, 9, 9), cutmix.Box(1, 3, 5, 8)),
        "fields": [angular_field(drawn(2, 6), kind) for kind in ("sum", "difference")],
        "flat": angular_field(torch.ones(1, 3)),
    }


def of_memory():
    memory = PredictionMemory(6, 4)
    memory.store(torch.tensor([4, 1]), STUDENT[:2])
    return {
        "targets": memory.targets(torch.tensor([1, 2, 4]), LABELS[:3], epoch=1, epochs=5, share=0.7),
        "softened": softened_targets(LABELS, TEACHER.softmax(1), epoch=2, epochs=3, share=0.4),
    }


def of_bilevel():
    net = network(2, 3)
    start, x, y = dict(net.named_parameters()), drawn(4, 2), torch.tensor([0, 1, 2, 0])

    def inner(parameters, inputs, step):
        logits = torch.func.functional_call(net, parameters, (inputs["x"],))
        return (step + 1) * nn.functional.cross_entropy(logits, y)

    def outer(parameters):
        return nn.functional.cross_entropy(torch.func.functional_call(net, parameters, (x + 1.0,)), y)

    rates, shares = torch.tensor([0.3, 0.1]).double(), torch.tensor([0.2, 0.8]).double()

    def shared(parameters, weights):
        return (weights[0] + weights[1] ** 2) * outer(parameters)

    weighed = bilevel.look_ahead_gradient(shared, outer, start, shares, 0.3)
    return {"descended": bilevel.descend(inner, start, {"x": x}, rates), "ahead": weighed}


class Conditional(nn.Module):
    """A dense network of a sample, or of noise, and its label."""

    def __init__(self, own, out):
        super().__init__()
        self.layer, self.out = nn.Linear(own + 2, out), out

    def forward(self, x, labels):
        found = self.layer(torch.cat([x, labels], 1))
        return found[:, 0] if self.out == 1 else found


def of_games():
    torch.manual_seed(0)
    made, critic, ratio = Conditional(3, 2), Conditional(2, 1), Conditional(2, 1)
    x, labels = drawn(9, 2).float(), torch.eye(2)[torch.arange(9) % 2]
    config = GanConfig(rounds=3, ratio_rounds=2, batch_size=4, lr=0.1, ratio_lr=0.2, penalty=0.5, blur=0.3)
    train_conditional_gan(made, critic, x, labels, config, latent=3, seed=2)
    options = {"features": lambda rows: rows.tanh(), "seed": 2}
    train_ratio(ratio, lambda own, rng: made(torch.randn(len(own), 3, generator=rng), own), x=x, labels=labels,
                config=config, **options)  # fmt: skip
    turns, follower = [], nn.Linear(1, 1)

    def follow(turn):
        seeds = float(torch.rand(1)), float(turn.shared.initial_seed() % 97)
        turns.append([turn.round, turn.step, turn.progress, *seeds])
        return (follower(torch.rand(3, 1, generator=turn.generator)) - 1.0).square().mean()

    last = Players({"one": Player(follower, follow, steps=2, clip_norm=0.1)}, seed=5).train(3)
    weights = [p for net in (made, critic, ratio, follower) for p in net.parameters()]
    return {"weights": weights, "turns": turns, "last": last}


def of_distilled_data():
    torch.manual_seed(0)
    net, data = MLP((3,), (4,), classes=3), Split(drawn(12, 3).float(), torch.arange(12) % 3)
    start = {name: value.detach().clone() for name, value in net.named_parameters()}
    config = DistilledConfig(
        blocks=2, passes=2, per_class=2, rate=0.3, rounds=5, batch_size=7, lr=0.2, halve_every=2, clip_norm=0.05
    )
    found = distill_data(net, lambda turn: {k: v + 0.01 * turn for k, v in start.items()}, data, 3, config, seed=1)
    return {"x": found.x, "rates": found.rates, "labels": found.labels}


FUNCTIONS = [value for name, value in list(globals().items()) if name.startswith("of_")]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_values_are_the_recorded_ones(function, recorded, limits):
    recorded("methods", function.__name__, {"values": function(), "limits": limits})
