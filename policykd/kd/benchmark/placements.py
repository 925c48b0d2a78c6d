"""Placements: where each loss is placed in student and teacher, what stands between, and what it prepares.

The places follow the code that the presets are from. Departures: CC compares the pooled feature through a linear map
of the student alone (the code maps the teacher, too, and trains that map); FSP brings the student to the teacher's
channels by 1 x 1 convolutions (the code has none and needs equal channels); losses with an initialization phase run it
inside the same number of epochs, under one optimizer and one learning rate schedule.

A record names its placement; one from outside may name its own as ``package.module:Attribute``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from policykd.errors import ConfigError
from policykd.kd.benchmark.config import BenchConfig, load_task, make_network
from policykd.kd.benchmark.settings import Setting
from policykd.kd.losses.ce import CE
from policykd.kd.losses.ft import FT
from policykd.kd.losses.kd import KD
from policykd.kd.networks.resnet import BasicBlock
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.projectors import Conv1x1, Linear, Places
from policykd.kd.objective.taps import TapError, Taps, find_layer
from policykd.kd.objective.terms import Term
from policykd.kd.registry import LOSSES, LossInfo
from policykd.kd.tasks import Task
from policykd.names import Registry
from policykd.schedules import Ramp, Step
from policykd.seeding import integer_seed
from policykd.torch_seeding import seeded_torch

_PARAPHRASER_EPOCHS = 10
_PARAPHRASER_BATCH = 128
_PARAPHRASER_SAMPLES = 4096


@dataclass(frozen=True)
class PlacementContext:
    """The task and the networks that a loss is placed in.

    Attributes:
        task: Task with data and tap paths.
        student: A student, for its shapes.
        teacher: The teacher, in eval mode.
        features: ``(tap, samples) -> features`` of the teacher for the first training samples, at most `samples`.
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
Place = Callable[[LossInfo, PlacementContext, Setting], Terms]
Needs = Literal["", "map", "image", "residual"]


@dataclass(frozen=True)
class Placement:
    """Where a loss is placed.

    Attributes:
        where: The place in words.
        place: ``(info, context, setting) -> terms`` of weight one; their names begin with the loss's.
        needs: What the networks must have: ``map`` for maps of any dimensions, ``image`` for maps ``(C, H, W)``,
            ``residual`` for stages that also end in a residual block; nothing for logits and vectors.
        unavailable: Why no benchmark has the place; empty for places that only depend on the networks.
    """

    where: str
    place: Place
    needs: Needs = ""
    unavailable: str = ""


PLACEMENTS: Registry[Placement] = Registry("placement", Placement)
"""The placements by the name that records use."""


def placement(name: str, where: str, *, needs: Needs = "") -> Callable[[Place], Place]:
    """Decorate a function as the placement of a name; see :class:`Placement` for `where` and `needs`."""

    def register(place: Place) -> Place:
        PLACEMENTS.register(name, Placement(where, place, needs))
        return place

    return register


def unavailable_placement(name: str, where: str, why: str) -> Placement:
    """Register the place of losses that no benchmark can place, since its task or its networks lack something.

    Args:
        name: Name of the placement.
        where: The place in words.
        why: What is missing, as the end of the sentence "it compares <where>, but ...".
    """

    def refuse(info: LossInfo, context: PlacementContext, setting: Setting) -> Terms:
        raise ConfigError(f"{info.name} cannot be benchmarked: it compares {where}, but {why}")

    return PLACEMENTS.register(name, Placement(where, refuse, unavailable=why))


def placement_of(name: str) -> Placement:
    """Return the placement of a loss.

    Args:
        name: A loss, or ``package.module:Attribute`` of a record.

    Raises:
        UnknownNameError: The loss is unknown, or its record names no known placement.
        ConfigError: A ``package.module:Attribute`` cannot be imported or is of another type.
    """
    return PLACEMENTS.resolve(LOSSES.resolve(name).placement)


def objective(name: str, context: PlacementContext, setting: Setting, epochs: int) -> Objective:
    """Return the objective of a loss: its terms, cross-entropy and KD with the weights of the setting.

    Args:
        name: A loss, or ``package.module:Attribute`` of a record.
        context: Task, networks and the teacher's features.
        setting: Weights and options.
        epochs: Length of the run, for weights that move.
    """
    info = LOSSES.resolve(name)
    with seeded_torch(integer_seed(context.seed, "benchmark", "loss", info.name), devices=[]):
        own = placement_of(name).place(info, context, setting)
    terms = {key: _own_weight(setting, epochs) * term for key, term in own.items()}
    added = {"labels": (setting.ce_weight, CE()), "soft": (setting.kd_weight, KD(temperature=4.0))}
    stage = setting.first_stage * epochs
    for key, (weight, loss) in added.items():
        if weight:
            terms[key] = (Step(0.0, weight, at=stage) if stage else weight) * loss
    return Objective(terms)


def _own_weight(setting: Setting, epochs: int) -> Any:
    if setting.first_stage:
        return Step(setting.weight, 0.0, at=setting.first_stage * epochs)
    return Ramp(0.0, setting.weight, steps=setting.warmup * epochs) if setting.warmup else setting.weight


def runnable(config: BenchConfig) -> dict[str, str]:
    """Find out which of a benchmark's losses its networks can run.

    Returns:
        Loss -> why it cannot run; the empty string where it can.

    Raises:
        ConfigError: The networks do not fit the task.
    """
    task = load_task(config, 0)
    networks = [make_network(config.student, task.student, task), make_network(config.teacher, task.teacher, task)]
    return {name: next(filter(None, (obstacle(name, task, n) for n in networks)), "") for name in config.methods}


def obstacle(name: str, task: Task, network: nn.Module) -> str:
    """Return why a loss cannot run on a network; empty where it can.

    Raises:
        UnknownNameError: The loss is unknown.
    """
    chosen = placement_of(name)
    if chosen.unavailable:
        return f"it compares {chosen.where}, but {chosen.unavailable}"
    if not chosen.needs:
        return ""
    if not {"map", "levels"} <= set(task.taps):
        return f"it compares {chosen.where}, and the networks have no maps"
    context = PlacementContext(task, network, network, _no_features)
    if chosen.needs != "map" and len(context.shapes((context.last,))[0]) != 3:
        return f"it compares {chosen.where}, which must be images (C, H, W)"
    if chosen.needs == "residual":
        try:
            preactivations(network, context.levels)
        except TapError as error:
            return str(error)
    return ""


def preactivations(network: nn.Module, levels: tuple[str, ...]) -> tuple[str, ...]:
    """Return the taps in front of the last activation of each stage of a residual network.

    Raises:
        TapError: A stage does not end in such a block.
    """
    taps = []
    for level in levels:
        stage = find_layer(network, level)
        last = f"{level}.{len(stage) - 1}" if isinstance(stage, nn.Sequential) else level
        if not isinstance(find_layer(network, last), BasicBlock):
            raise TapError(f"{last} is not a residual block that ends in an activation")
        taps.append(f"{last}.act2:input")
    return tuple(taps)


def _no_features(tap: str, samples: int) -> Tensor:
    raise LookupError(f"no features of {tap!r} here")


def _built(info: LossInfo, setting: Setting, **more: Any) -> Any:
    return info.build(**{**setting.options, **more})


@placement("logits", "logits")
def _on_logits(info: LossInfo, context: PlacementContext, setting: Setting) -> Terms:
    return {info.name: Term(_built(info, setting))}


@placement("logits_stacked", "logits of all teachers")
def _on_stacked_logits(info: LossInfo, context: PlacementContext, setting: Setting) -> Terms:
    return {info.name: Term(_built(info, setting)).combined("stack")}


@placement("logit_maps", "class logits at every place of the last map", needs="image")
def _on_logit_maps(info: LossInfo, context: PlacementContext, setting: Setting) -> Terms:
    return {info.name: _built(info, setting).on(f"{context.last}>fc")}


@placement("pooled", "the pooled feature")
def _on_pooled(info: LossInfo, context: PlacementContext, setting: Setting) -> Terms:
    return {info.name: _built(info, setting).on(context.vector)}


@placement("pooled_projected", "the pooled feature, the student's through a linear map")
def _on_pooled_projected(info: LossInfo, context: PlacementContext, setting: Setting) -> Terms:
    return {info.name: _built(info, setting).on(context.vector, student_proj=Linear())}


@placement("pooled_memory", "the pooled feature")
def _on_pooled_with_memory(info: LossInfo, context: PlacementContext, setting: Setting) -> Terms:
    own, other = (context.shapes((context.vector,), teacher=side)[0][0] for side in (False, True))
    samples = len(context.task.train)
    loss = _built(info, setting, n_data=samples, student_dim=own, teacher_dim=other, seed=context.seed)
    return {info.name: loss.on(context.vector)}


@placement("last_map", "the last map", needs="map")
def _on_last_map(info: LossInfo, context: PlacementContext, setting: Setting) -> Terms:
    return {info.name: _built(info, setting).on(context.last)}


@placement("last_map_places", "the places of the last map as parts of a sample", needs="image")
def _on_places(info: LossInfo, context: PlacementContext, setting: Setting) -> Terms:
    return {info.name: _built(info, setting).on(context.last, student_proj=Places(), teacher_proj=Places())}


@placement("last_map_connected", "the last map", needs="image")
def _on_last_map_connected(info: LossInfo, context: PlacementContext, setting: Setting) -> Terms:
    return {info.name: _built(info, setting, **context.widths(context.last)).on(context.last)}


@placement("last_map_paraphrased", "the last map", needs="image")
def _on_last_map_paraphrased(info: LossInfo, context: PlacementContext, setting: Setting) -> Terms:
    loss = _built(info, setting, **context.widths(context.last))
    train_paraphraser(loss, context.features(context.last, _PARAPHRASER_SAMPLES))
    return {info.name: loss.on(context.last)}


@placement("middle_map", "the middle map", needs="image")
def _on_middle_map(info: LossInfo, context: PlacementContext, setting: Setting) -> Terms:
    middle = context.levels[len(context.levels) // 2]
    own, other = (context.shapes((middle,), teacher=side)[0] for side in (False, True))
    return {info.name: _built(info, setting, student_shape=own, teacher_shape=other).on(middle)}


@placement("levels", "the maps of all stages", needs="image")
def _on_levels(info: LossInfo, context: PlacementContext, setting: Setting) -> Terms:
    return {info.name: _built(info, setting).on(context.levels)}


@placement("levels_one_by_one", "the maps of all stages, one term each", needs="image")
def _on_levels_one_by_one(info: LossInfo, context: PlacementContext, setting: Setting) -> Terms:
    return {f"{info.name}_{tap}": _built(info, setting, **context.widths(tap)).on(tap) for tap in context.levels}


@placement("levels_projected", "pairs of stages, the student's through 1 x 1 convolutions", needs="image")
def _on_levels_projected(info: LossInfo, context: PlacementContext, setting: Setting) -> Terms:
    projectors = [Conv1x1() for _ in context.levels]
    return {info.name: _built(info, setting).on(context.levels, student_proj=projectors)}


@placement("levels_and_pooled", "the maps of all stages and the pooled feature", needs="image")
def _on_levels_and_pooled(info: LossInfo, context: PlacementContext, setting: Setting) -> Terms:
    taps = (*context.levels, context.vector)
    return {info.name: _built(info, setting, **context.widths(*taps)).on(taps)}


@placement("preactivations", "maps before the activation", needs="residual")
def _on_preactivations(info: LossInfo, context: PlacementContext, setting: Setting) -> Terms:
    return _before_activations(info, context, setting)


def _before_activations(info: LossInfo, context: PlacementContext, setting: Setting, **more: Any) -> Terms:
    own, other = (preactivations(network, context.levels) for network in (context.student, context.teacher))
    return {info.name: _built(info, setting, **context.widths(*context.levels), **more).on(own, other)}


@placement("preactivations_with_norms", "maps before the activation", needs="residual")
def _on_preactivations_with_norms(info: LossInfo, context: PlacementContext, setting: Setting) -> Terms:
    taps = preactivations(context.teacher, context.levels)
    norms = [find_layer(context.teacher, tap.replace("act2:input", "norm2")) for tap in taps]
    return _before_activations(info, context, setting, batch_norms=norms)


unavailable_placement(
    "other_outputs",
    "outputs of independent labels or of real values",
    "the tasks of a benchmark have one class per sample",
)
unavailable_placement(
    "rotated_views",
    "embeddings of four rotated views of every image",
    "the batches of a benchmark have one view and its networks no head for it",
)


def train_paraphraser(loss: FT, maps: Tensor) -> None:
    """Train factor transfer's paraphraser on the teacher's maps and freeze it again, as its paper asks.

    Ten epochs of Adam; draws from torch's current random state.
    """
    part = loss.paraphraser.requires_grad_(True)
    optimizer = torch.optim.Adam(part.parameters(), 1e-3)
    part.train()
    for _ in range(_PARAPHRASER_EPOCHS):
        for rows in torch.randperm(len(maps)).split(_PARAPHRASER_BATCH):
            optimizer.zero_grad()
            part.reconstruction_loss(maps[rows]).backward()
            optimizer.step()
    part.requires_grad_(False)
    part.eval()
