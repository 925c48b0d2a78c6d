"""cGAN-KD: a teacher passes on what it knows by filtering and labeling the samples of a conditional GAN.

Ding, Wang, Xu, Wang and Welch, Distilling and Transferring Knowledge via cGAN-generated Samples for Image
Classification and Regression (Expert Systems with Applications 213, 2023, arXiv 2104.03164). Networks are in
``policykd.kd.networks.generators`` and their training in ``policykd.kd.training.conditional_gan``. Density ratios,
rejection and filter are in ``policykd.kd.fake_samples``.

Departures: networks are fully connected and small; the features of the density ratio are the teacher's last hidden
layer; labels of regression are a grid of quantiles and have no vicinity; students learn from real and generated samples
from the start instead of being fine-tuned; thresholds of errors are taken from the samples that they filter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from policykd.kd import functional as kf
from policykd.kd.experiments.digits import digits_rows, some
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.limits import Scale, Share
from policykd.kd.experiments.system import Fit, Recipe, System, higher, lower
from policykd.kd.fake_samples import keep_smallest, rejection_sample
from policykd.kd.networks import MLP
from policykd.kd.networks.generators import LabelCritic, VectorGenerator
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch
from policykd.kd.training.conditional_gan import GanConfig, train_conditional_gan, train_ratio
from policykd.kd.training.loop import minimize, seeded
from policykd.plain import Limits
from policykd.seeding import generator, integer_seed

Count = Annotated[int, Limits(2, 1_000_000)]


@dataclass(frozen=True)
class CGANKDRecipe(Recipe):
    """A teacher that saw many samples; few real ones for students and generator; digits and diabetes records.

    Attributes:
        real: Real digits of the students and of the generator.
        real_records: The same of diabetes records.
        record_teacher_samples: Records of the teacher.
        gan: Training of generator, critic and density ratio.
        latent: Size of the noise.
        per_label: Generated samples for every digit class, and for every value of the grid of labels.
        grid: Values of the grid of labels of records.
        kept_share: Quantile of the teacher's errors up to which digits are kept, rho.
        kept_share_records: The same of records.
        jitter: Deviation of the noise on copies of real samples, a baseline.
        inflation: Factor of the covariance of a Gaussian generator, a baseline.
    """

    teacher: Fit = Fit((128, 32), steps=600)
    student: Fit = Fit((48,), steps=400)
    shares: tuple[float, ...] = (0.56, 0.44)
    real: Count = 150
    real_records: Count = 60
    record_teacher_samples: Count = 300
    gan: GanConfig = field(default_factory=GanConfig)
    latent: Count = 16
    per_label: Count = 50
    grid: Count = 10
    kept_share: Share = 0.9
    kept_share_records: Share = 0.7
    jitter: Scale = 0.15
    inflation: Scale = 3.0


class Problem:
    """Digits or diabetes records of one seed, with teacher, generator and density ratio.

    Attributes:
        real: Real samples of the students.
        test: Samples for testing.
        values: Labels for which samples are generated: classes, or quantiles of real labels.
    """

    def __init__(self, seed: int, recipe: CGANKDRecipe, name: str) -> None:
        self.seed, self.recipe, self.name = seed, recipe, name
        self.classes = name == "digits"
        if self.classes:
            train, self.test = digits_rows(seed, recipe.shares)
            self.real, self.values = some(train, recipe.real, seed), torch.arange(10)
        else:
            train, self.real, self.test = diabetes_rows(seed, recipe)
            self.values = torch.quantile(self.real.y, (torch.arange(recipe.grid) + 0.5) / recipe.grid)
        self.width, self.label_size = train.x.shape[1], 10 if self.classes else 1
        self.teacher = self.fit(train, recipe.teacher, "teacher")

    def network(self, fit: Fit, role: str) -> MLP:
        """Return a new network of a role; equal roles begin with equal weights."""
        count = 10 if self.classes else 1
        return seeded(lambda: MLP((self.width,), fit.hidden, classes=count), self.seed, "cgan_kd", self.name, role)

    def answers(self, network: nn.Module, x: Tensor) -> Tensor:
        """Return logits ``(B, 10)``, or values ``(B,)``."""
        out: Tensor = network(x)
        return out if self.classes else out[:, 0]

    def errors(self, network: nn.Module, data: Split) -> Tensor:
        """Return the cross-entropy or absolute error of a network on every sample ``(N,)``."""
        out = self.answers(network, data.x)
        return F.cross_entropy(out, data.y, reduction="none") if self.classes else (out - data.y).abs()

    def fit(self, data: Split, fit: Fit, role: str, *, taught: bool = False) -> MLP:
        """Return a network that learned from labels, or also from the teacher's answers by plain distillation."""
        network, recipe = self.network(fit, role), self.recipe

        def loss(batch: Batch, epoch: int) -> Tensor:
            out = self.answers(network, batch.x)
            hard = F.cross_entropy(out, batch.targets) if self.classes else F.mse_loss(out, batch.targets)
            if not taught:
                return hard
            with torch.no_grad():
                answer = self.answers(self.teacher, batch.x)
            soft = kf.kd(out, answer, temperature=recipe.temperature) if self.classes else F.mse_loss(out, answer)
            return recipe.ce_weight * hard + recipe.kd_weight * soft

        minimize(loss, network, data, fit.config(len(data), integer_seed(self.seed, "cgan_kd", self.name, role)))
        return network

    def vectors(self, y: Tensor) -> Tensor:
        """Return labels as vectors ``(B, label_size)``."""
        return F.one_hot(y, 10).float() if self.classes else y[:, None]

    def train_generator(self) -> None:
        """Train generator and density ratio on the real samples of the students."""
        recipe, key = self.recipe, (self.seed, "cgan_kd", self.name)
        size, labels = self.label_size, self.vectors(self.real.y)
        hidden = (128, 128)
        make = seeded(
            lambda: VectorGenerator(recipe.latent, hidden, (self.width,), label_size=size, bounded=self.classes),
            *key,
            "generator",
        )
        critic = seeded(lambda: LabelCritic(self.width, size, (128, 64)), *key, "critic")
        train_conditional_gan(
            make, critic, self.real.x, labels, recipe.gan, latent=recipe.latent, seed=integer_seed(*key, "gan")
        )
        self.generator = make
        ratio = seeded(lambda: LabelCritic(self.teacher.fc.in_features, size, (64, 32), positive=True), *key, "ratio")
        train_ratio(ratio, self.draw, self.features, self.real.x, labels, recipe.gan, seed=integer_seed(*key, "ratio"))
        self.ratio = ratio

    @torch.no_grad()
    def draw(self, labels: Tensor, rng: torch.Generator) -> Tensor:
        """Return generated samples for vectors of labels."""
        made: Tensor = self.generator(torch.randn(len(labels), self.recipe.latent, generator=rng), labels)
        return made

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Return the teacher's last hidden layer."""
        return self.teacher.features_and_logits(x)[0]

    def fakes(self, *, rejected: bool) -> Split:
        """Return generated samples for all values of labels, after rejection by density ratios or as they come."""
        rng = torch.Generator().manual_seed(integer_seed(self.seed, "cgan_kd", self.name, "fakes"))
        count, parts = self.recipe.per_label, []
        for value in self.values:
            label = self.vectors(value[None])

            def draw(number: int, generator: torch.Generator, label: Tensor = label) -> Tensor:
                return self.draw(label.expand(number, -1), generator)

            def ratio(x: Tensor, label: Tensor = label) -> Tensor:
                return self.ratio(self.features(x), label.expand(len(x), -1))

            parts.append(rejection_sample(draw, ratio, count, rng) if rejected else draw(count, rng))
        return Split(torch.cat(parts), self.values.repeat_interleave(count))

    def gaussians(self) -> Split:
        """Return samples of a Gaussian whose mean is linear in the label's vector, with inflated covariance."""
        rng, count = generator(self.seed, "cgan_kd", self.name, "gaussians"), self.recipe.per_label
        basis, made = self._basis(self.real.y), self._basis(self.values.repeat_interleave(count))
        weights = torch.linalg.lstsq(basis, self.real.x).solution
        residual = self.real.x - basis @ weights
        covariance = self.recipe.inflation * residual.T @ residual / len(residual)
        values, axes = torch.linalg.eigh(covariance)
        noise = torch.from_numpy(rng.normal(size=(len(made), self.width))).float()
        x = made @ weights + noise * values.clamp_min(0.0).sqrt() @ axes.T
        return Split(x, self.values.repeat_interleave(count))

    def _basis(self, y: Tensor) -> Tensor:
        vectors = self.vectors(y)
        return vectors if self.classes else torch.cat([vectors, torch.ones_like(vectors)], 1)

    def processed(self, data: Split) -> Split:
        """Return filtered samples; those of records also with the teacher's labels."""
        kept = self.filtered(data)
        return kept if self.classes else self.relabeled(kept)

    @torch.no_grad()
    def filtered(self, data: Split) -> Split:
        """Return the samples about which the teacher errs least, in every class or among all records."""
        share = self.recipe.kept_share if self.classes else self.recipe.kept_share_records
        kept = keep_smallest(self.errors(self.teacher, data), share, data.y if self.classes else None)
        return data.take(kept)

    @torch.no_grad()
    def relabeled(self, data: Split) -> Split:
        """Return the samples with the teacher's labels."""
        out = self.answers(self.teacher, data.x)
        return Split(data.x, out.argmax(1) if self.classes else out)

    def jittered(self, count: int) -> Split:
        """Return noisy copies of real samples with the teacher's labels."""
        rng = generator(self.seed, "cgan_kd", self.name, "jitter")
        rows = torch.from_numpy(rng.integers(0, len(self.real), count))
        scale = self.recipe.jitter if self.classes else 2 * self.recipe.jitter
        noise = torch.from_numpy(rng.normal(size=(count, self.width))).float()
        return self.relabeled(Split(self.real.x[rows] + scale * noise, self.real.y[rows]))


def diabetes_rows(seed: int, recipe: CGANKDRecipe) -> tuple[Split, Split, Split]:
    """Return standardized diabetes records: the teacher's, those of them that students have, and test records."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    order = generator(seed, "cgan_kd", "records").permutation(len(y))
    cut = recipe.record_teacher_samples
    x, y = ((values - values[order[:cut]].mean(0)) / values[order[:cut]].std(0) for values in (x, y))
    whole = Split(torch.from_numpy(x).float(), torch.from_numpy(y).float())
    train = whole.take(order[:cut])
    return train, train.take(torch.arange(min(cut, recipe.real_records))), whole.take(order[cut:])


def _joined(one: Split, other: Split) -> Split:
    return Split(torch.cat([one.x, other.x]), torch.cat([one.y, other.y]))


_METHOD, _REAL, _RAW = "cgan-kd", "real alone", "with fakes"


class CGANKD(System[CGANKDRecipe]):
    """Students of few real samples, alone and with generated ones that were processed to different degrees."""

    name = "cgan_kd"
    title = "Distillation through filtered samples of a conditional GAN"
    paper = "Ding, Wang, Xu, Wang, Welch, Expert Systems with Applications 213 (2023), arXiv 2104.03164"
    claim = (
        "Samples of a conditional GAN, chosen by density ratios and the teacher, make a student of few real samples "
        "more accurate, in classification and in regression."
    )
    claims = (
        higher("accuracy", _METHOD, _REAL).says("Processed samples of digits raise accuracy over real ones alone."),
        higher("accuracy", _METHOD, _RAW).says(
            "Processed samples of digits give a higher accuracy than all generated ones."
        ),
        lower("record error", _METHOD, _REAL).says(
            "Processed samples of diabetes records lower the mean absolute error below that of real ones alone."
        ),
        lower("record error", _METHOD, _RAW, required=False).says(
            "Processed samples of records give a lower error than all generated ones."
        ),
        higher("accuracy", _METHOD, "kd on real", required=False).says(
            "Processed samples of digits give a higher accuracy than plain distillation on the real ones."
        ),
        higher("accuracy", _METHOD, "with noisy copies", required=False).says(
            "Processed samples give a higher accuracy than noisy copies of real digits with the teacher's labels."
        ),
        higher("accuracy", "processed gaussians", _REAL, required=False).says(
            "Processed samples of a Gaussian for every digit raise accuracy over real ones alone."
        ),
        higher("label agreement", _METHOD, _RAW, required=False).says(
            "The teacher agrees with more labels of processed digits than of all generated ones."
        ),
    )
    notes = (
        "The teacher saw more real samples than students and generator, who share the same few.",
        "Errors of records are in deviations of the labels.",
    )
    recipe = CGANKDRecipe()

    @override
    def run(self, seed: int, recipe: CGANKDRecipe) -> Metrics:
        digits, records = (self.cells(Problem(seed, recipe, name)) for name in ("digits", "records"))
        return {arm: {**own, **records[arm]} for arm, own in digits.items()}

    def cells(self, problem: Problem) -> dict[str, dict[str, float]]:
        """Return the metrics of all arms on one problem."""
        problem.train_generator()
        raw, chosen = problem.fakes(rejected=False), problem.fakes(rejected=True)
        gaussians = problem.gaussians()
        added = {
            _RAW: raw,
            "with subsampled": chosen,
            _METHOD: problem.processed(chosen),
            "relabeled, not filtered": problem.relabeled(chosen),
            "with noisy copies": problem.jittered(len(raw)),
            "with gaussians": gaussians,
            "processed gaussians": problem.processed(gaussians),
        }
        fit = problem.recipe.student
        networks: dict[str, Any] = {
            "teacher": problem.teacher,
            _REAL: problem.fit(problem.real, fit, "student"),
            "kd on real": problem.fit(problem.real, fit, "student", taught=True),
        }
        networks |= {name: problem.fit(_joined(problem.real, more), fit, "student") for name, more in added.items()}
        return {name: self.of_student(problem, network, added.get(name)) for name, network in networks.items()}

    @torch.no_grad()
    def of_student(self, problem: Problem, network: nn.Module, added: Split | None) -> dict[str, float]:
        """Return a student's metrics; with generated samples also how often the teacher agrees with their labels."""
        if not problem.classes:
            return {"record error": float(problem.errors(network, problem.test).mean())}
        right = (problem.answers(network, problem.test.x).argmax(1) == problem.test.y).double().mean()
        found = {"accuracy": float(right)}
        if added is not None:
            agreed = problem.answers(problem.teacher, added.x).argmax(1) == added.y
            found["label agreement"] = float(agreed.double().mean())
        return found


EXPERIMENT = CGANKD().experiment()
