"""Tokens and 1-D maps have three axes alike; this module tells them apart by the layer, and stops a wrong reading.

It looks at layers and shapes and computes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from policykd.kd.losses import KDLoss
from policykd.kd.objective.outputs import Outputs
from policykd.kd.objective.projectors import Chain, Conv1x1, Pool, Projector, ProjectorError
from policykd.kd.objective.signals import shape_text
from policykd.kd.objective.taps import TapPoint, unwrap
from policykd.kd.objective.terms import Term

_FEATURES_LAST = (
    nn.Linear,
    nn.LayerNorm,
    nn.Embedding,
    nn.RNNBase,
    nn.MultiheadAttention,
    nn.TransformerEncoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoder,
    nn.TransformerDecoderLayer,
)
_KEEP_AXES = (
    nn.Dropout,
    nn.Identity,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Tanh,
    nn.Sigmoid,
    nn.Hardswish,
)


@dataclass(frozen=True)
class MapReader:
    """A feature that a term reads as a map, channels on axis 1.

    Attributes:
        term: Name of the term.
        tap: Tap of the feature.
        what: The projector or loss that reads it.
    """

    term: str
    tap: str
    what: str


def map_readers(terms: Mapping[str, Term]) -> tuple[list[MapReader], list[MapReader]]:
    """Return the features of student and teacher that are read as maps.

    A projector is asked first: ``Conv1x1`` and ``Pool`` read maps, ``Identity`` vouches for what it passes on; without
    a projector, the loss is (``KDLoss.channels_first``).
    """
    found: tuple[list[MapReader], list[MapReader]] = ([], [])
    for name, term in terms.items():
        if term.by_event:
            continue
        sides = ((term.student_taps, term.student_projs), (term.teacher_taps, term.teacher_projs))
        for readers, (taps, projectors) in zip(found, sides, strict=True):
            for place, tap in enumerate(taps):
                what = _reader(term.loss, projectors[place] if projectors else None)
                if what:
                    readers.append(MapReader(name, tap, what))
    return found


def check_map_readers(
    readers: Iterable[MapReader],
    network: nn.Module | None,
    features: Mapping[str, Tensor],
    logits: Tensor,
    outputs: Outputs,
) -> None:
    """Refuse tokens ``(B, T, D)`` where a map ``(B, C, L)`` is read.

    Tokens are what layers give that keep features on the last axis, and features whose axis 1 is the event axis of
    outputs ``(B, T, C)``. Of other layers with three axes nothing is known; they are taken as maps.

    Args:
        readers: The features that are read as maps.
        network: The network that they are from; None where only features are known, such as those of a cache.
        features: Tap -> feature.
        logits: The network's outputs.
        outputs: What the outputs are.

    Raises:
        ProjectorError: A feature is tokens.
    """
    for reader in readers:
        feature = features[reader.tap]
        if feature.dim() != 3:
            continue
        why = _token_layer(network, reader.tap) or _token_events(feature, logits, outputs)
        if why:
            raise ProjectorError(
                f"term {reader.term!r}: {reader.tap!r} gives tokens (B, T, D) = {shape_text(feature)}, since {why}, "
                f"but {reader.what} reads axis 1 as channels: put the projector Tokens() before it, or use "
                "TokenLinear(); if axis 1 does hold channels, put Identity() before it"
            )


def _reader(loss: nn.Module, projector: Projector | None) -> str:
    while isinstance(projector, Chain):
        projector = next(iter(projector.steps))  # type: ignore[assignment]
    if isinstance(projector, Conv1x1 | Pool):
        return type(projector).__name__
    if projector is None and isinstance(loss, KDLoss) and loss.channels_first:
        return type(loss).__name__
    return ""


def _token_layer(network: nn.Module | None, tap: str) -> str:
    point = TapPoint.parse(tap)
    if network is None or point.side != "output" or point.through is not None:
        return ""
    layer = unwrap(network).get_submodule(point.path)
    while isinstance(layer, nn.Sequential):
        layer = next((child for child in reversed(layer) if not isinstance(child, _KEEP_AXES)), nn.Identity())
    return f"{type(layer).__name__} has its features on the last axis" if isinstance(layer, _FEATURES_LAST) else ""


def _token_events(feature: Tensor, logits: Tensor, outputs: Outputs) -> str:
    if logits.dim() != 3 or outputs.class_axis != 2:
        return ""
    events = logits.shape[1]
    if feature.shape[1] != events or feature.shape[2] == events:
        return ""
    return f"axis 1 has as many places as the outputs {outputs.layout} have events ({events})"
