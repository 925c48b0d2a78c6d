"""Functions on small inputs, with options other than their defaults: values that must not change by accident.

Their meaning is tested next to each of them; here is what a rewrite must reproduce.
"""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from policykd.kd import ensembles, flatness, metrics, representations, similarity_information
from policykd.kd.class_bias import tune_bias
from policykd.kd.data import audio, splits, windows
from policykd.kd.experiments import digits, power
from policykd.kd.experiments.decisions import fieller, holm, mean_interval, p_value
from policykd.kd.experiments.system import higher, lower
from policykd.kd.expert_selection import assigned, difficulty, strata, unlocked
from policykd.kd.kernel_self_distillation import (
    KernelSelfDistillation,
    best_weight,
    constant_weight_factors,
    limit_factors,
    step_factors,
    summed_factors,
)
from policykd.kd.log_mel import LogMel, from_mel, mel, mel_filters
from policykd.kd.losses import balanced_kl as balanced
from policykd.kd.losses import multi_teacher_kd as several
from policykd.kd.losses._negatives import NegativeDraw
from policykd.kd.losses.binary_kd import binary_kd
from policykd.kd.losses.modality_gram import modality_gram
from policykd.kd.metric_registry import METRICS
from policykd.kd.networks import MLP
from policykd.kd.shapes import match_size
from policykd.kd.tasks import Split, stratified
from policykd.kd.tasks.base import with_wrong_labels
from policykd.kd.training.averaging import Averaging, WeightAverage
from policykd.kd.training.batches import Batches
from policykd.kd.training.config import SchedulerConfig
from policykd.kd.training.distributed import shares
from policykd.kd.training.fields import Fields
from policykd.kd.training.loaders import LoaderBatches
from policykd.kd.training.mixing import Mixup, draw_mixing, virtual_teacher
from policykd.kd.training.samplers import (
    ClassUniformSampler,
    SuperclassUniformSampler,
    same_class_share,
    super_classes,
)
from policykd.kd.training.variants import Variants


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rng():
    return np.random.default_rng(0)


LOGITS, TEACHER, LABELS = 2 * drawn(12, 4), 2 * drawn(12, 4, seed=1), torch.arange(12) % 4
TAGS = (drawn(12, 4, seed=2) > 0.3).float()
MEMBERS = torch.stack([LOGITS, TEACHER, drawn(12, 4, seed=3)])
P = MEMBERS.softmax(-1).numpy()
MANY = np.repeat(np.arange(7), [9, 5, 8, 6, 3, 10, 4])
DIGITS = digits.digits_rows


def kernel():
    x = drawn(9, 2).numpy()
    matrix = np.exp(-((x[:, None] - x[None]) ** 2).sum(-1))
    other = np.exp(-((drawn(4, 2, seed=5).numpy()[:, None] - x[None]) ** 2).sum(-1))
    two = KernelSelfDistillation(matrix, drawn(9, 2, seed=6).numpy(), ridge=0.3)
    one = KernelSelfDistillation(matrix, drawn(9, seed=6).numpy(), ridge=0.3)
    shrinkage, weights, target = two.shrinkage, [0.3, 0.2, 0.7, 0.1], drawn(4, 2, seed=7).numpy()
    return {
        "eigenvalues": two.eigenvalues,
        "fitted": two.fitted(weights),
        "predictions": two.predictions(other, weights),
        "of a vector": [one.fitted(weights), one.predictions(other, weights), one.limit(other, 0.4)],
        "limit": two.limit(other, 0.4),
        "other ridge": two.with_ridge(2.0).predictions(other, weights),
        "best": two.best_weights(other, target, 4),
        "clipped": two.best_weights(other, target, 4, clip=True),
        "first": two.best_weights(other, target, 1),
        "steps": step_factors(shrinkage, weights),
        "sum": summed_factors(shrinkage, weights),
        "constant": [constant_weight_factors(shrinkage, 0.3, step) for step in (1, 2, 5)],
        "at infinity": limit_factors(two.eigenvalues, 0.3, 0.4),
        "weight": best_weight(target, 2 * target + 1, target**2),
    }


def of_ensembles():
    found = {}
    for goal in ("nll", "accuracy"):
        config = ensembles.EvolutionConfig(population=6, generations=20, mutation=(0.4, 0.9), recombination=0.6)
        best = ensembles.evolve_weights(P, LABELS.numpy(), seed=3, goal=goal, config=config)
        alone = ensembles.evolve_weights(P[:1], LABELS.numpy(), seed=3, goal=goal)
        found[goal] = [best.weights, best.value, alone.value, alone.evaluations]
    for softening in ("softened", "resoftened", "logits"):
        found[softening] = ensembles.ensemble_logits(MEMBERS, [0.5, 0.2, 0.1], temperature=3.0, softening=softening)
    found["nll of weights"] = ensembles.ensemble_nll(P, LABELS.numpy(), [0.5, 0.2, 0.1])
    found["accuracy of weights"] = ensembles.ensemble_accuracy(P, LABELS.numpy(), [0.5, 0.2, 0.1])
    found["normalized"] = ensembles.normalized([[0.0, 2.0], [0.0, 6.0]])
    found["selected"] = ensembles.selected_logits(MEMBERS, LABELS % 3)
    return found


def of_flatness():
    torch.manual_seed(0)
    network, data = MLP((4,), (5,), classes=4), Split(drawn(12, 4).float(), LABELS)
    generator = torch.Generator().manual_seed(1)
    found = flatness.measure_flatness(network, data, probes=4, radius=0.1, generator=generator)
    weight = drawn(3, 3).requires_grad_()
    product = flatness.hessian_vector_product(lambda: (weight**3).sum() + (weight @ weight).sum(), [weight])
    trace = flatness.hutchinson_trace(product, flatness.rademacher(5, [weight], generator))
    value, vector = flatness.top_eigenvalue(product, drawn(9), iterations=3, tolerance=1e-3)
    flat = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    return {
        "measured": found,
        "trace": trace,
        "one probe": flatness.hutchinson_trace(product, torch.ones(1, 9, dtype=torch.float64)),
        "top": [value, vector],
        "at zero gradient": flatness.sam_sharpness(lambda: 2 * flat[0] ** 2 - flat[1] ** 2, [flat], radius=0.3),
        "sharpness": flatness.sam_sharpness(lambda: (weight**4).sum(), [weight], radius=0.3),
    }


def of_information():
    si, options = similarity_information, {"temperature": 2.5}
    return {
        "entropy": si.response_entropy(LOGITS, **options, reduction="none"),
        "wrong classes": si.non_target_entropy(LOGITS, LABELS, **options, reduction="none"),
        "normalized": si.non_target_entropy(LOGITS, LABELS, **options, normalize=True),
        "information": si.similarity_information(LOGITS, LABELS, **options, reduction="none"),
        "permuted": si.permuted_non_targets(LOGITS, LABELS, **options, generator=torch.Generator().manual_seed(1)),
        "smoothed": si.smoothed_labels(LOGITS, LABELS, **options),
        "class means": si.class_mean_answers(LOGITS, LABELS, **options),
        "class means without a class": si.class_mean_answers(LOGITS[:3], LABELS[:3], **options),
        "sweet spot": [si.sweet_spot([0.9, 0.89, 0.7], [0.1, 0.2, 0.3], tolerance=t) for t in (0.0, 0.02, 0.5)],
    }


def of_metrics():
    found = {
        "figures": metrics.figures(LOGITS, LABELS, TEACHER),
        "without a teacher": metrics.figures(LOGITS, LABELS),
        "kl": metrics.kl(LOGITS, TEACHER, temperature=3.0),
        "entropy": metrics.entropy(LOGITS, temperature=3.0),
        "ece": metrics.ece(LOGITS, LABELS, bins=4),
        "edges": metrics.calibration_error(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]), torch.ones(5), bins=4),
        "recall": metrics.recall(LOGITS, LABELS, 2),
        "average precision": metrics.micro_average_precision(LOGITS, TAGS),
        "cka": representations.linear_cka(LOGITS, MEMBERS[2, :, :3]),
        "bound": representations.info_nce_bound(LOGITS, TEACHER, temperature=0.3),
    }
    for name, metric in METRICS.items():
        labels = {"single_label": LABELS, "multi_label": TAGS, "regression": TEACHER}[metric.kinds[0]]
        running = metric.make(4)
        for rows in (slice(0, 5), slice(5, 12)):
            running.update(LOGITS.float()[rows], labels[rows])
        found[f"running {name}"] = float(running.compute())
    return found


def of_losses():
    """Losses that no benchmark places, so that ``test_every_loss.py`` does not record them."""
    student, found = LOGITS.clone().requires_grad_(), {}

    def keep(name, loss, leaf=student):
        found[name] = [loss, *torch.autograd.grad(loss, leaf)]

    rules = [balanced.Balance(3.0), balanced.Balance(3.0, flipped=True), balanced.Fixed(0.3, 0.7), balanced.Soft(0.2)]
    for rule in rules:
        keep(str(rule), balanced.balanced_kl(student, TEACHER, rule=rule, temperature=3.0))
    for scale_t2 in (True, False):
        keep(f"binary {scale_t2}", binary_kd(student, TEACHER, temperature=3.0, scale_t2=scale_t2))
    for name in ("label_confidence", "entropy_weights", "equal_weights"):
        weighting = getattr(several, name)
        for teachers, reference in ((MEMBERS, False), (MEMBERS, True), (MEMBERS[:1], False)):
            module = several.MultiTeacherKD(weighting, temperature=2.5, reference_scale=reference)
            keep(f"{name} {len(teachers)} {reference}", module(student, teachers, LABELS))
        found[name] = weighting(MEMBERS, LABELS)
    modalities, theirs = drawn(5, 3, 4).requires_grad_(), drawn(5, 4, 6, seed=1)
    for variant in ("per_sample", "off_diagonal", "batch", "raw", "probability"):
        keep(variant, modality_gram(modalities, theirs, variant=variant, present=(0, 2, 3)), modalities)
    maps, shapes = drawn(12, 3, 4, 4).requires_grad_(), [(2, 2, 2), (5, 4, 4), (2, 6, 5)]
    for detached, reference in ((True, False), (False, True)):
        torch.manual_seed(0)
        heads = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(int(np.prod(one)), 4)) for one in shapes]
        options = {"detach_weights": detached, "reference_scale": reference}
        features = several.ConfidenceFeatures(3, shapes, torch.nn.ModuleList(heads).double(), **options).double()
        keep(f"features {detached}", features(maps, [drawn(12, *one, seed=2) for one in shapes], LABELS), maps)
    return found | {"own": balanced.own_first_kl(LOGITS, TEACHER), "peer": balanced.peer_first_kl(LOGITS, TEACHER)}


def of_decisions():
    one, other = drawn(8).numpy() + 1.5, drawn(8, seed=1).numpy() + 3.0
    pilots = {"a": {"m": tuple(one)}, "b": {"m": tuple(other)}}
    claims = [higher("m", "a", "b"), lower("m", "a", "b"), lower("m", "a", "b", by=0.5), higher("m", "a", by=0.1)]
    plans = [power.plan(claim, power.Pilot.of(claim, pilots), 12, comparisons=3) for claim in claims]
    return {
        "mean": vars(mean_interval(one, together=3)),
        "of one": vars(mean_interval([0.5])),
        "of two": [vars(mean_interval(one[:2])), vars(fieller(one[:2], 1e3 + other[:2])), p_value(one[:2])],
        "ratio": vars(fieller(one, other)),
        "p": [p_value(one), p_value(one - other), p_value([2.0, 2.0]), p_value([0.0, 0.0]), p_value([1.0])],
        "holm": holm([0.03, 0.01, 0.04, 0.5]),
        "smallest": [power.smallest_effect(0.2, n, comparisons=k, power=0.9) for n, k in ((5, 1), (12, 4))],
        "needed": [power.seeds_needed(effect, 0.2, comparisons=2, power=0.7) for effect in (0.5, 0.1, 1e-4)],
        "plans": [[p.pilot.mean, p.pilot.spread, p.pilot.seeds, p.detectable, p.gate, p.needed] for p in plans],
    }


def of_sound():
    front = LogMel(4000, mels=9, window=0.02, hop=0.007, lowest=50.0, highest=1500.0, floor=1e-3)
    series = drawn(2, 9).numpy()
    return {
        "frames": front(0.1 * drawn(2, 400).float()),
        "counts": [front.frames(samples) for samples in (79, 80, 107, 108, 400)],
        "one frame": front(0.1 * drawn(2, 80).float()),
        "plain": LogMel(2000, mels=5)(0.1 * drawn(1, 300).float()),
        "scale": [mel(440.0), from_mel(300.0)],
        "filters": mel_filters(2000, 64, 6, 30.0, 900.0),
        "fitted": [audio.fit_length(np.arange(5.0), length) for length in (2, 3, 5, 8, 9)],
        "windows": windows.cut_windows(drawn(11, 2).numpy(), 4, 3),
        "resampled": windows.resample(series, 5),
    }


def of_samplers():
    uniform = ClassUniformSampler(MANY, classes=3, per_class=2, seed=5)
    sur = SuperclassUniformSampler(MANY, [0, 0, 1, 1, 0, 1, 0], classes=2, per_class=2, seed=5)
    features = drawn(len(MANY), 3) + torch.from_numpy(MANY)[:, None]
    groups = [super_classes(features, torch.from_numpy(MANY), 4, smallest=k, seed=2) for k in (1, 2, 3)]
    return {
        "uniform": [list(uniform.epoch(number)) for number in (0, 3)],
        "inside super-classes": list(sur.epoch(1)),
        "lengths": [len(uniform), len(sur), uniform.batch_size],
        "super-classes": groups,
        "share": same_class_share([0, 1, 1, 0, 1]),
        "groups": [splits.split_groups(MANY, shares, 3) for shares in ((0.6, 0.2, 0.2), (0.1, 0.45, 0.45), (0.5, 0.5))],
        "held out": splits.hold_out(MANY, tuple("abcdefg"), "c"),
        "stratified": stratified(np.arange(40) % 5, (0.5, 0.2, 0.3), 3),
        "wrong labels": with_wrong_labels(MANY, 0.4, 7, rng()),
    }


def of_mixing():
    mixing = draw_mixing(6, concentration=0.5, images=3, per_sample=True, generator=rng())
    shared = draw_mixing(6, concentration=0.5, generator=rng())
    found = {"shares": mixing.shares, "partners": mixing.partners, "mixed": mixing.mix(drawn(6, 2, 3))}
    found["shared"] = [shared.shares, shared.mix(drawn(6, 2))]
    for reading in ("on_mix", "mixed_targets"):
        found[reading] = virtual_teacher(lambda x: x**2, drawn(6, 3), mixing, temperature=2.0, reading=reading)
    for mode in ("exact", "reference"):
        mixup = Mixup(beta=0.7, fraction=0.4, mode=mode)
        found[mode] = [mixup.coefficients(9, rng()), *mixup(drawn(7, 2, 3), LABELS[:7], 4, rng())]
    return found


def of_experts():
    scores = difficulty(MEMBERS, LABELS)
    parts = strata(scores, 5)
    return {
        "difficulty": scores,
        "strata": parts,
        "unlocked": [unlocked(e, experts=4, curriculum_epochs=10.0) for e in (0, 2.4, 2.5, 7, 9.9, 10, 30)],
        "without pacing": unlocked(0, experts=4, curriculum_epochs=0.0),
        "assigned": assigned(parts, 3),
        "bias": tune_bias(LOGITS, LABELS, [1, 3], limit=4.0, steps=9),
    }


def of_digits():
    parts = DIGITS(2, (0.3, 0.2, 0.5))
    draws = digits.LabeledDraws(parts[0], 5, 3)
    return {
        "rows": [[part.x, part.y] for part in parts],
        "some": digits.some(parts[0], 9, 3).x,
        "per class": digits.some_per_class(parts[0], 2, 3).x,
        "noise": digits.with_label_noise(parts[0], 0.3, 3).y,
        "redrawn": digits.redrawn_labels(parts[0].y, 0.3, seed=3, purpose="test", classes=9),
        "draws": [draws.draw().x for _ in range(2)],
    }


def of_schedules():
    kinds = [SchedulerConfig("constant", warmup=2.0), SchedulerConfig("cosine", warmup=1.5, floor=0.2)]
    kinds.append(SchedulerConfig("multistep", milestones=(2, 3.5), gamma=0.3))
    places = (0.0, 0.5, 1.5, 2.0, 3.5, 4.0, 5.0)
    return [[kind.factor(place, 4) for place in places] for kind in kinds]


def of_batches():
    def read(batch):
        parts = (batch.x, batch.targets, batch.index, batch.mask, batch.weights, batch.teacher_index)
        return [*parts, batch.sizes, batch.augmented, batch.variants, batch.variant_start]

    def noisy(x, generator):
        return x + torch.randn(x.shape, generator=generator, dtype=x.dtype)

    data, rows = (drawn(11, 2), torch.arange(11)), [(drawn(2, seed=k), k % 3) for k in range(7)]
    named = {"a": drawn(11, 2), "y": torch.arange(11), "m": torch.ones(11), "w": torch.arange(11) / 4}
    sources = {
        "plain": Batches(data, 4, shuffle=False),
        "shuffled": Batches(data, 4, seed=3, drop_last=True),
        "augmented": Batches(data, 4, seed=3, augment=noisy),
        "variants": Batches(data, 4, seed=3, augment=Variants(noisy, 2, seed=1)),
        "samples": Batches(rows, 3, seed=3, augment=noisy, rank=1, world=2),
        "variants of samples": Batches(rows, 3, seed=3, augment=Variants(noisy, 2)),
        "fields": Batches(named, 5, fields=Fields(inputs="a", targets="y", mask="m", weights="w")),
        "a loader": LoaderBatches(DataLoader(TensorDataset(*data), batch_size=4, shuffle=True), seed=2, augment=noisy),
        "variants of a loader": LoaderBatches(
            DataLoader(TensorDataset(*data), batch_size=4), augment=Variants(noisy, 3)
        ),
        **{f"share {rank}": Batches(data, 5, seed=3, rank=rank, world=3, augment=noisy) for rank in range(3)},
    }
    found = {
        name: [[read(batch) for batch in source.epoch(2, start)] for start in (0, 1)]
        for name, source in sources.items()
    }
    return found | {"lengths": {name: [len(source), source.samples] for name, source in sources.items()}}


def of_negatives():
    index, visits = torch.tensor([0, 3, 8]), torch.tensor([0, 1, 5])
    kinds = {"all": NegativeDraw(9, seed=4), "classes": NegativeDraw(9, torch.arange(9) % 3, seed=4)}
    return {name: draw(index, visits, 12) for name, draw in kinds.items()} | {"shares": [shares(11, 4), shares(8, 4)]}


def of_averages():
    found = {}
    for averaging in (Averaging("ema", decay=0.6), Averaging("swa"), Averaging("swa", refresh=False)):
        average, norm = WeightAverage(averaging), torch.nn.BatchNorm1d(2).double()
        for step in range(3):
            norm(drawn(6, 2, seed=step))
            norm.weight.data += 1.0
            average.update(norm)
        made = average.network(norm, [drawn(6, 2, seed=7), drawn(4, 2, seed=8)])
        found[str(averaging)] = [*made.state_dict().values(), made.momentum, average.count]
    return found


def of_shapes():
    maps = drawn(2, 3, 6, 5), drawn(2, 4, 4, 7, seed=1)
    lines = drawn(2, 3, 6), drawn(2, 4, 4, seed=1)
    return [match_size(*pair, pool) for pair in (maps, lines) for pool in ("avg", "max")]


FUNCTIONS = [value for name, value in list(globals().items()) if name.startswith("of_")] + [kernel]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_values_are_the_recorded_ones(function, recorded, limits):
    recorded("functions", function.__name__, {"values": function(), "limits": limits})
