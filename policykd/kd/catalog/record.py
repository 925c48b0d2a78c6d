"""The types of the catalog: a method and its presets, as plain data."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Family = Literal["baseline", "response", "relational", "feature", "contrastive"]
Need = Literal["logits", "features", "targets", "indices"]
Mark = Literal["read", "recalled", "ours"]


@dataclass(frozen=True)
class Preset:
    """Settings of a method as somebody published or ran them.

    Attributes:
        name: How it is asked for.
        source: Who used these numbers, and on what.
        mark: ``read`` in code or a published table, ``recalled`` and not checked again, or ``ours``.
        weight: Weight of the term.
        ce_weight: Weight of cross-entropy beside it.
        kd_weight: Weight of plain KD beside it.
        options: Options of the loss.
        warmup: Epochs over which the weight rises from 0.
    """

    name: str
    source: str
    mark: Mark
    weight: float = 1.0
    ce_weight: float = 1.0
    kd_weight: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)
    warmup: int = 0


@dataclass(frozen=True)
class Method:
    """One registered loss.

    Attributes:
        name: Key, also the name of the function and of both files.
        title: Full name.
        paper: Authors and title.
        year: Year of the paper.
        venue: Where it appeared.
        family: What is compared: responses, relations between samples, features, or contrasts with a memory.
        needs: What a call takes beside student and teacher modules.
        equation: The loss in one line.
        loss: Name of the module in ``policykd.kd.losses``.
        variants: Name -> what it computes.
        deviations: Departures from the paper.
        presets: Name -> settings.
        stateful: Whether the loss remembers samples between calls.
        trainable: Whether the module may hold parameters for the optimizer.
        batch_coupled: Whether the value depends on the batch by definition.
        preset: The preset chosen by ``methods.get(name, preset=...)``.
    """

    name: str
    title: str
    paper: str
    year: int
    venue: str
    family: Family
    needs: tuple[Need, ...]
    equation: str
    loss: str
    variants: Mapping[str, str] = field(default_factory=dict)
    deviations: tuple[str, ...] = ()
    presets: tuple[Preset, ...] = ()
    stateful: bool = False
    trainable: bool = False
    batch_coupled: bool = False
    preset: Preset | None = None

    def load(self) -> type:
        """Return the loss module's class."""
        kind: type = getattr(importlib.import_module("policykd.kd.losses"), self.loss)
        return kind

    def build(self, **options: Any) -> Any:
        """Return the loss module with the chosen preset's options; those given here win."""
        chosen = dict(self.preset.options) if self.preset else {}
        return self.load()(**(chosen | options))
