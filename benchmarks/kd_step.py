"""Overhead of the objective: KD training steps with objective and taps against handwritten steps.

Three ratios, each the median over paired runs in alternating order, so that a busy machine affects both sides equally.
They are given in wall time, and in processor time of all threads, which other programs hardly change:

- ``objective``: CE + KD + SP, ResNet32x4 -> ResNet8x4 with a running teacher, against the same mathematics written by
  hand, with the networks' stages called one by one (no taps, no checks). Goal: at most 1.02.
- ``tokens``: CE + KD of outputs ``(B, T, C)`` with padding that is left out, against the same by hand. Goal: at most
  1.02.
- ``cached``: CE + KD with the teacher's logits from a memory map, against a step with CE alone. Goal: at most 1.10.

Run it with ``python benchmarks/kd_step.py --pairs 15``; the last line is JSON.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from policykd.kd.losses import CE, KD, SP
from policykd.kd.networks import ResNet, resnet
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.outputs import Outputs
from policykd.kd.objective.terms import Term
from policykd.kd.training.teacher_cache import TeacherCache

Step = Callable[[], Tensor]


@dataclass(frozen=True)
class Settings:
    """Size of the measurement."""

    pairs: int = 9
    """Paired runs per ratio, after one warm-up step of each."""
    batch: int = 64
    """Samples per step."""
    steps: int = 1
    """Steps per timed run."""
    threads: int = 0
    """Torch threads; 0 leaves torch's choice."""


def optimizer_of(student: nn.Module) -> torch.optim.Optimizer:
    """Return the usual SGD."""
    return torch.optim.SGD(student.parameters(), 0.05, 0.9, weight_decay=5e-4)


def stepper(student: nn.Module, loss: Callable[[], Tensor]) -> Step:
    """Return a training step of a student with a loss."""
    optimizer = optimizer_of(student)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def by_hand(student: ResNet, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the last stage and the logits without taps."""
    maps = student.layer3(student.layer2(student.layer1(student.stem(x))))
    return maps, student.fc(student.pool(maps))


def similarity(maps: Tensor) -> Tensor:
    """Return the row-normalized Gram matrix of a batch."""
    flat = maps.flatten(1)
    return F.normalize(flat @ flat.T, dim=1)


def objective_pair(x: Tensor, y: Tensor, teacher: ResNet) -> tuple[Step, Step]:
    """Return the step with the objective and the same step written by hand."""
    ours, theirs = resnet(8, wide=True, classes=100), resnet(8, wide=True, classes=100)
    theirs.load_state_dict(ours.state_dict())
    terms = {"ce": 0.1 * Term(CE()), "kd": 0.9 * Term(KD(temperature=4.0)), "sp": 3000.0 * Term(SP()).on("layer3")}
    objective = Objective(terms)

    def hand() -> Tensor:
        with torch.no_grad():
            teacher_maps, soft = by_hand(teacher, x)
        maps, logits = by_hand(theirs, x)
        log_student, log_teacher = F.log_softmax(logits / 4.0, 1), F.log_softmax(soft / 4.0, 1)
        kd = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * 16.0
        sp = (similarity(maps) - similarity(teacher_maps)).square().sum() / len(x) ** 2
        return 0.1 * F.cross_entropy(logits, y) + 0.9 * kd + 3000.0 * sp

    return stepper(ours, lambda: objective(ours, teacher, x, y).loss), stepper(theirs, hand)


class Tagger(nn.Module):
    """A recurrent tagger of tokens."""

    def __init__(self, width: int, words: int = 1000, classes: int = 50) -> None:
        super().__init__()
        self.embed, self.memory = nn.Embedding(words, width), nn.GRU(width, width, 2, batch_first=True)
        self.classify = nn.Linear(width, classes)

    def forward(self, words: Tensor) -> Tensor:
        """Map tokens ``(B, T)`` to logits ``(B, T, C)``."""
        return self.classify(self.memory(self.embed(words))[0])


def tokens_pair(batch: int) -> tuple[Step, Step]:
    """Return the step on tokens with the objective and the same step written by hand; a fifth of them is padding."""
    words = torch.randint(0, 1000, (batch, 64))
    labels = torch.randint(0, 50, (batch, 64)).masked_fill(torch.rand(batch, 64) < 0.2, -100)
    teacher, ours, theirs = Tagger(256).eval(), Tagger(128), Tagger(128)
    theirs.load_state_dict(ours.state_dict())
    outputs = Outputs("BTC", ignore_index=-100)
    objective = Objective(ce=0.1 * Term(CE()), kd=0.9 * Term(KD(temperature=4.0)), outputs=outputs)

    def hand() -> Tensor:
        with torch.no_grad():
            soft = teacher(words)
        logits = theirs(words)
        known = (labels != -100).flatten().nonzero()[:, 0]
        rows, known_soft, targets = logits.flatten(0, 1)[known], soft.flatten(0, 1)[known], labels.flatten()[known]
        log_student, log_teacher = F.log_softmax(rows / 4.0, 1), F.log_softmax(known_soft / 4.0, 1)
        kd = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * 16.0
        return 0.1 * F.cross_entropy(rows, targets) + 0.9 * kd

    return stepper(ours, lambda: objective(ours, teacher, words, labels).loss), stepper(theirs, hand)


def cached_pair(x: Tensor, y: Tensor, teacher: ResNet, folder: str) -> tuple[Step, Step]:
    """Return the step with cached teacher outputs and the step with labels alone."""
    ours, theirs = resnet(8, wide=True, classes=100), resnet(8, wide=True, classes=100)
    theirs.load_state_dict(ours.state_dict())
    index = torch.arange(len(x))
    cache = TeacherCache.write(f"{folder}/cache", teacher, [(x, index)], samples=len(x))
    objective = Objective(ce=0.1 * Term(CE()), kd=0.9 * Term(KD(temperature=4.0)))
    with_cache = stepper(ours, lambda: objective(ours, cache, x, y, index=index).loss)
    return with_cache, stepper(theirs, lambda: F.cross_entropy(theirs(x), y))


def seconds(step: Step, steps: int) -> tuple[float, float]:
    """Measure wall time and processor time of several steps."""
    began, worked = time.perf_counter(), time.process_time()
    for _ in range(steps):
        step()
    return time.perf_counter() - began, time.process_time() - worked


def compare(first: Step, second: Step, settings: Settings) -> dict[str, dict[str, float]]:
    """Return median ratios of paired runs, first over second, in alternating order, of wall and processor time."""
    seconds(first, 1), seconds(second, 1)
    pairs = []
    for number in range(settings.pairs):
        order = (first, second) if number % 2 == 0 else (second, first)
        times = {id(step): seconds(step, settings.steps) for step in order}
        pairs.append((times[id(first)], times[id(second)]))
    clocks = {"wall": 0, "processor": 1}
    return {clock: medians([(a[place], b[place]) for a, b in pairs]) for clock, place in clocks.items()}


def medians(pairs: list[tuple[float, float]]) -> dict[str, float]:
    """Return medians over pairs of times: of both times and of their ratio, with its smallest and largest value."""
    ratios = sorted(a / b for a, b in pairs)
    return {
        "ratio": statistics.median(ratios),
        "least": ratios[0],
        "most": ratios[-1],
        "seconds": statistics.median(a for a, _ in pairs),
        "seconds_reference": statistics.median(b for _, b in pairs),
    }


def main(settings: Settings) -> None:
    """Measure and print."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    x, y = torch.randn(settings.batch, 3, 32, 32), torch.randint(0, 100, (settings.batch,))
    teacher = resnet(32, wide=True, classes=100).eval()
    with tempfile.TemporaryDirectory() as folder:
        ours, hand = objective_pair(x, y, teacher)
        first = [float(step()) for step in (ours, hand)]
        if abs(first[0] - first[1]) > 1e-4 * abs(first[1]):
            raise SystemExit(f"the two steps do not compute the same loss: {first}")
        tokens = tokens_pair(settings.batch)
        first = [float(step()) for step in tokens]
        if abs(first[0] - first[1]) > 1e-4 * abs(first[1]):
            raise SystemExit(f"the two steps on tokens do not compute the same loss: {first}")
        results = {
            "objective": compare(ours, hand, settings),
            "tokens": compare(*tokens, settings),
            "cached": compare(*cached_pair(x, y, teacher, folder), settings),
        }
    for name, aim in (("objective", 1.02), ("tokens", 1.02), ("cached", 1.10)):
        for clock, found in results[name].items():
            spread = f"{found['least']:.3f} to {found['most']:.3f}"
            times = f"{found['seconds']:.3f} s against {found['seconds_reference']:.3f} s"
            print(f"{name:<9} {clock:<9} ratio {found['ratio']:.3f} ({spread}), {times}; aim at most {aim}")
    facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), "cores": os.cpu_count()}
    print(json.dumps({**facts, "settings": asdict(settings), **results}))


if __name__ == "__main__":
    main(tyro.cli(Settings))
