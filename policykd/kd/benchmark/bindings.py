"""Bindings: where each method looks in student and teacher, what stands between, and what it prepares.

The places follow the code that the presets are from. Departures: CC compares the pooled feature through a linear map
of the student alone (the code maps the teacher, too, and trains that map); FSP brings the student to the teacher's
channels by 1 x 1 convolutions (the code has none and needs equal channels); methods with an initialization phase run it
inside the same number of epochs, under one optimizer and one learning rate schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from policykd.errors import UnknownNameError
from policykd.kd.benchmark.config import BenchConfig, load_task, make_network
from policykd.kd.benchmark.search import Setting
from policykd.kd.losses import CE, FT, KD
from policykd.kd.networks.resnet import BasicBlock
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.projectors import Conv1x1, Linear
from policykd.kd.objective.taps import TapError, Taps, find_layer
from policykd.kd.objective.terms import Term
from policykd.kd.registry import methods
from policykd.kd.tasks import Task
from policykd.schedules import Ramp, Step
from policykd.seeding import integer_seed

_PARAPHRASER_EPOCHS = 10
_PARAPHRASER_BATCH = 128
_PARAPHRASER_SAMPLES = 4096


@dataclass(frozen=True)
class Ground:
    """What a method is bound to.

    Attributes:
        task: Task with data and tap paths.
        student: A student, for its shapes.
        teacher: The teacher, in eval mode.
        features: ``(tap, samples) -> features`` of the teacher for the first training samples, at most so many.
        seed: Seeds what losses draw when they are built.
    """

    task: Task
    student: nn.Module
    teacher: nn.Module
    features: Callable[[str, int], Tensor]
    seed: int = 0

    @property
    def vector(self) -> str:
        """Tap of the vector in front of the classifier."""
        return self.task.taps["features"][0]

    @property
    def last(self) -> str:
        """Tap of the last map."""
        return self.task.taps["map"][0]

    @property
    def levels(self) -> tuple[str, ...]:
        """Taps of the maps, shallow to deep."""
        return tuple(self.task.taps["levels"])

    def shapes(self, taps: tuple[str, ...], *, teacher: bool = False) -> list[tuple[int, ...]]:
        """Shapes of features, without the batch."""
        network = self.teacher if teacher else self.student
        mode = network.training
        with torch.no_grad(), Taps(taps).attach(network) as seen:
            network.eval()(self.task.train.x[:2])
            shapes = [tuple(seen.tensor(tap).shape[1:]) for tap in taps]
        network.train(mode)
        return shapes

    def widths(self, *taps: str) -> dict[str, Any]:
        """``student_channels`` and ``teacher_channels`` of features: numbers for one tap, lists for several."""
        own, other = ([shape[0] for shape in self.shapes(taps, teacher=side)] for side in (False, True))
        return {
            "student_channels": own[0] if len(taps) == 1 else own,
            "teacher_channels": other[0] if len(taps) == 1 else other,
        }


Terms = dict[str, Term]
Build = Callable[[str, Ground, Setting], Terms]


@dataclass(frozen=True)
class Binding:
    """Where a method looks.

    Attributes:
        where: The place in words.
        build: ``(method, ground, setting) -> terms`` of weight one.
        needs: ``map`` for a map of any dimensions, ``image`` for maps ``(C, H, W)``; nothing for logits and vectors.
    """

    where: str
    build: Build
    needs: Literal["", "map", "image"] = ""


def objective(name: str, ground: Ground, setting: Setting, epochs: int) -> Objective:
    """The objective of a method: its terms, cross-entropy and KD with the weights of the setting.

    Args:
        name: A registered method.
        ground: Task, networks and the teacher's features.
        setting: Weights and options.
        epochs: Length of the run, for weights that move.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(integer_seed(ground.seed, "benchmark", "loss", name))
        own = BINDINGS[name].build(name, ground, setting)
    terms = {key: _own_weight(setting, epochs) * term for key, term in own.items()}
    beside = {"labels": (setting.ce_weight, CE()), "soft": (setting.kd_weight, KD(temperature=4.0))}
    stage = setting.first_stage * epochs
    for key, (weight, loss) in beside.items():
        if weight:
            terms[key] = (Step(0.0, weight, at=stage) if stage else weight) * loss
    return Objective(terms)


def _own_weight(setting: Setting, epochs: int) -> Any:
    if setting.first_stage:
        return Step(setting.weight, 0.0, at=setting.first_stage * epochs)
    return Ramp(0.0, setting.weight, steps=setting.warmup * epochs) if setting.warmup else setting.weight


def runnable(config: BenchConfig) -> dict[str, str]:
    """Which of a benchmark's methods its networks can run.

    Returns:
        Method -> why it cannot run; the empty string where it can.

    Raises:
        ConfigError: The networks do not fit the task.
    """
    task = load_task(config, 0)
    networks = [make_network(config.student, task.student, task), make_network(config.teacher, task.teacher, task)]
    return {name: next(filter(None, (obstacle(name, task, n) for n in networks)), "") for name in config.methods}


def obstacle(name: str, task: Task, network: nn.Module) -> str:
    """Why a method cannot run on a network; empty where it can.

    Raises:
        UnknownNameError: No method of this name is bound.
    """
    if name not in BINDINGS:
        raise UnknownNameError("method of the benchmark:", name, BINDINGS)
    binding = BINDINGS[name]
    if not binding.needs:
        return ""
    if not {"map", "levels"} <= set(task.taps):
        return f"it compares {binding.where}, and the networks have no maps"
    ground = Ground(task, network, network, _no_features)
    if binding.needs == "image" and len(ground.shapes((ground.last,))[0]) != 3:
        return f"it compares {binding.where}, which must be images (C, H, W)"
    if binding.build is _preactivations:
        try:
            preactivations(network, ground.levels)
        except TapError as error:
            return str(error)
    return ""


def preactivations(network: nn.Module, levels: tuple[str, ...]) -> tuple[str, ...]:
    """Taps in front of the last activation of each stage of a residual network.

    Raises:
        TapError: A stage does not end in such a block.
    """
    taps = []
    for level in levels:
        stage = find_layer(network, level)
        last = f"{level}.{len(stage) - 1}" if isinstance(stage, nn.Sequential) else level
        if not isinstance(find_layer(network, last), BasicBlock):
            raise TapError(f"{last} is no residual block that ends in an activation")
        taps.append(f"{last}.act2:input")
    return tuple(taps)


def _no_features(tap: str, samples: int) -> Tensor:
    raise LookupError(f"no features of {tap!r} here")


def _loss(name: str, setting: Setting, **more: Any) -> Any:
    return methods[name].build(**{**setting.options, **more})


def _logits(name: str, ground: Ground, setting: Setting) -> Terms:
    return {name: Term(_loss(name, setting))}


def _logit_maps(name: str, ground: Ground, setting: Setting) -> Terms:
    return {name: _loss(name, setting).on(f"{ground.last}>fc")}


def _vector(name: str, ground: Ground, setting: Setting) -> Terms:
    return {name: _loss(name, setting).on(ground.vector)}


def _last_map(name: str, ground: Ground, setting: Setting) -> Terms:
    return {name: _loss(name, setting).on(ground.last)}


def _levels(name: str, ground: Ground, setting: Setting) -> Terms:
    return {name: _loss(name, setting).on(ground.levels)}


def _cc(name: str, ground: Ground, setting: Setting) -> Terms:
    return {name: _loss(name, setting).on(ground.vector, student_proj=Linear())}


def _crd(name: str, ground: Ground, setting: Setting) -> Terms:
    own, other = (ground.shapes((ground.vector,), teacher=side)[0][0] for side in (False, True))
    made = _loss(name, setting, n_data=len(ground.task.train), student_dim=own, teacher_dim=other, seed=ground.seed)
    return {name: made.on(ground.vector)}


def _fitnet(name: str, ground: Ground, setting: Setting) -> Terms:
    middle = ground.levels[len(ground.levels) // 2]
    own, other = (ground.shapes((middle,), teacher=side)[0] for side in (False, True))
    return {name: _loss(name, setting, student_shape=own, teacher_shape=other).on(middle)}


def _connected_map(name: str, ground: Ground, setting: Setting) -> Terms:
    return {name: _loss(name, setting, **ground.widths(ground.last)).on(ground.last)}


def _ft(name: str, ground: Ground, setting: Setting) -> Terms:
    loss = _loss(name, setting, **ground.widths(ground.last))
    train_paraphraser(loss, ground.features(ground.last, _PARAPHRASER_SAMPLES))
    return {name: loss.on(ground.last)}


def _vid(name: str, ground: Ground, setting: Setting) -> Terms:
    return {f"{name}_{tap}": _loss(name, setting, **ground.widths(tap)).on(tap) for tap in ground.levels}


def _fsp(name: str, ground: Ground, setting: Setting) -> Terms:
    return {name: _loss(name, setting).on(ground.levels, student_proj=[Conv1x1() for _ in ground.levels])}


def _reviewkd(name: str, ground: Ground, setting: Setting) -> Terms:
    taps = (*ground.levels, ground.vector)
    return {name: _loss(name, setting, **ground.widths(*taps)).on(taps)}


def _preactivations(name: str, ground: Ground, setting: Setting) -> Terms:
    own, other = (preactivations(network, ground.levels) for network in (ground.student, ground.teacher))
    more = ground.widths(*ground.levels)
    if name == "ofd":
        more["batch_norms"] = [find_layer(ground.teacher, tap.replace("act2:input", "norm2")) for tap in other]
    return {name: _loss(name, setting, **more).on(own, other)}


def train_paraphraser(loss: FT, maps: Tensor) -> None:
    """Train factor transfer's paraphraser on the teacher's maps and freeze it again, as its method asks.

    Ten epochs of Adam; draws from torch's current random state.
    """
    part = loss.paraphraser.requires_grad_(True)
    optimizer = torch.optim.Adam(part.parameters(), 1e-3)
    part.train()
    for _ in range(_PARAPHRASER_EPOCHS):
        for rows in torch.randperm(len(maps)).split(_PARAPHRASER_BATCH):
            optimizer.zero_grad(set_to_none=True)
            part.reconstruction_loss(maps[rows]).backward()
            optimizer.step()
    part.requires_grad_(False)
    part.eval()


BINDINGS: Mapping[str, Binding] = MappingProxyType(
    {
        **{name: Binding("logits", _logits) for name in ("ce", "tfkd", "kd", "lskd", "dkd", "wsld", "cwtm")},
        **{name: Binding("logits", _logits) for name in ("mse_logits", "jsd", "dist", "mlkd")},
        **{
            name: Binding("class logits at every place of the last map", _logit_maps, "image")
            for name in ("cat_kd", "sdd")
        },
        **{name: Binding("the pooled feature", _vector) for name in ("rkd", "pkt")},
        "cc": Binding("the pooled feature, the student's through a linear map", _cc),
        "crd": Binding("the pooled feature", _crd),
        "sp": Binding("the last map", _last_map, "map"),
        "fitnet": Binding("the middle map", _fitnet, "image"),
        "ickd": Binding("the last map", _connected_map, "image"),
        "ft": Binding("the last map", _ft, "image"),
        **{name: Binding("the maps of all stages", _levels, "image") for name in ("at", "nst")},
        "vid": Binding("the maps of all stages, one term each", _vid, "image"),
        "fsp": Binding("pairs of stages, the student's through 1 x 1 convolutions", _fsp, "image"),
        **{name: Binding("maps before the activation", _preactivations, "image") for name in ("ab", "ofd")},
        "reviewkd": Binding("the maps of all stages and the pooled feature", _reviewkd, "image"),
    }
)
