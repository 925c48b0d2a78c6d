"""The registry of losses: what each is, where it comes from, how it departs from its paper, which weights go with it.

    LOSSES.list(needs="logits", family="relational")
    info = LOSSES.get("crd", preset="repdistiller")
    loss = info.build(n_data=50_000, student_dim=64, teacher_dim=256)

A record is ``INFO`` of a file in ``policykd/kd/catalog``. One of another package is named ``my_lab.my_loss:INFO``
wherever a loss is named, or registered by ``LOSSES.register``, which other processes do not know of. Torch is loaded by
``load`` and ``build`` only.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from typing_extensions import override

from policykd.errors import ConfigError, UnknownNameError
from policykd.names import Registry, import_object

Family = Literal["baseline", "response", "relational", "contrastive", "feature"]
"""What is compared: labels, responses, relations between samples, a sample with a memory, or features."""
Need = Literal["logits", "features", "targets", "indices"]
Mark = Literal["read", "recalled", "ours"]
Tuned = Literal["weight", "temperature", "label_smoothing"]


@dataclass(frozen=True)
class Preset:
    """Settings of a loss as they were published or used.

    Attributes:
        name: Its name.
        source: Who used these numbers, and on what.
        mark: ``read`` in code or a published table, ``recalled`` and not checked again, or ``ours``.
        weight: Weight of the loss.
        ce_weight: Weight of cross-entropy with the labels, added to it.
        kd_weight: Weight of plain KD, added to it.
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
class LossInfo:
    """The record of one loss.

    Attributes:
        name: Key in the registry, also the name of the function.
        title: Full name.
        paper: Authors and title.
        year: Year of the paper.
        venue: Where it appeared.
        family: What is compared, see :data:`Family`; families are listed in that order.
        needs: What a call takes from the networks and the batch.
        equation: The loss in one line.
        loss: Its module as ``package.module:Class``.
        rank: Place in lists of its family; losses of equal rank are sorted by name.
        variants: Name -> what it computes.
        deviations: Departures from the paper.
        presets: Published settings.
        default: Name of the preset that benchmarks start from; empty for weight 1 and cross-entropy at 1.
        weight_factor: Benchmarks multiply the default preset's weight by this. Published weights are those of networks
            with 16 to 256 channels on CIFAR-100 and can drown the labels elsewhere. For every loss on features the
            weights times 1, 1/10 and 1/100 were tried on textures, seeds 100 and 101, which no benchmark uses; the
            factor stayed 1 unless a lower one raised the mean validation accuracy by more than a point.
        placement: Where benchmarks place the loss in student and teacher: a name in
            :data:`policykd.kd.benchmark.placements.PLACEMENTS`, or ``package.module:Attribute`` of a placement.
        tuned: What benchmarks vary when they search for a setting: the weight alone, weight and temperature, or the
            label smoothing.
        replaces_cross_entropy: Whether the loss is a cross-entropy with the labels, so that none is added to it.
        stateful: Whether the loss remembers samples between calls.
        trainable: Whether the module may hold parameters for the optimizer.
        batch_coupled: Whether the value depends on the batch by definition.
        preset: The preset chosen by ``LOSSES.get(name, preset=...)``.

    Raises:
        ConfigError: a field is out of range.
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
    rank: int = 1000
    variants: Mapping[str, str] = field(default_factory=dict)
    deviations: tuple[str, ...] = ()
    presets: tuple[Preset, ...] = ()
    default: str = ""
    weight_factor: float = 1.0
    placement: str = "logits"
    tuned: Tuned = "weight"
    replaces_cross_entropy: bool = False
    stateful: bool = False
    trainable: bool = False
    batch_coupled: bool = False
    preset: Preset | None = None

    def __post_init__(self) -> None:
        for what, given, known in (
            ("family", (self.family,), get_args(Family)),
            ("needs", self.needs, get_args(Need)),
            ("tuned", (self.tuned,), get_args(Tuned)),
            ("default", (self.default,) if self.default else (), tuple(preset.name for preset in self.presets)),
        ):
            if wrong := [repr(value) for value in given if value not in known]:
                raise ConfigError(f"loss {self.name}: {what} is {wrong[0]}; it must be one of {', '.join(known)}")
        if not self.weight_factor > 0:
            raise ConfigError(f"loss {self.name}: weight_factor must be above 0, got {self.weight_factor!r}")

    def chosen(self, preset: str) -> LossInfo:
        """Return the record with one of its presets chosen.

        Raises:
            UnknownNameError: there is no such preset.
        """
        return replace(self, preset=self._preset(preset))

    @property
    def default_preset(self) -> Preset:
        """The preset that benchmarks start from.

        Raises:
            UnknownNameError: the record names none.
        """
        return self._preset(self.default)

    def _preset(self, name: str) -> Preset:
        known = {own.name: own for own in self.presets}
        if name not in known:
            raise UnknownNameError(f"preset of {self.name}:", name, known)
        return known[name]

    def load(self) -> type:
        """Return the class of the loss module.

        Raises:
            ConfigError: it cannot be imported.
        """
        kind: type = import_object(self.loss)
        return kind

    def build(self, **options: Any) -> Any:
        """Return the loss module with the chosen preset's options; those given here win."""
        chosen = dict(self.preset.options) if self.preset else {}
        return self.load()(**(chosen | options))


class Losses(Registry[LossInfo]):
    """The records by name, sorted by family, rank and name."""

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(sorted(super().__iter__(), key=lambda name: _place(self[name])))

    @override
    def register(self, name: str, entry: LossInfo) -> LossInfo:
        if name != getattr(entry, "name", name):
            raise ConfigError(f"loss '{entry.name}' cannot be registered under another name, '{name}'")
        return super().register(name, entry)

    def get(self, name: str, default: Any = None, *, preset: str | None = None) -> LossInfo:
        """Return the record of a name or of ``package.module:Attribute``, with a preset chosen if one is given.

        Raises:
            UnknownNameError: there is no such loss or preset (unless a `default` is given for the loss).
            ConfigError: ``package.module:Attribute`` cannot be imported or is not a record.
        """
        if default is not None and name not in self and ":" not in name:
            fallback: LossInfo = default
            return fallback
        info = self.resolve(name)
        return info if preset is None else info.chosen(preset)

    def list(self, *, needs: str | None = None, family: str | None = None) -> builtins.list[LossInfo]:
        """Return the records that need this signal and belong to this family, in the order of the registry.

        Raises:
            UnknownNameError: there is no such need or family.
        """
        for what, wanted, known in (("need", needs, get_args(Need)), ("family", family, get_args(Family))):
            if wanted is not None and wanted not in known:
                raise UnknownNameError(what, wanted, known)
        return [info for info in self.values() if needs in (None, *info.needs) and family in (None, info.family)]


def _place(info: LossInfo) -> tuple[int, int, str]:
    return get_args(Family).index(info.family), info.rank, info.name


LOSSES = Losses.of_folder("loss", "policykd.kd.catalog", "INFO", LossInfo)
"""The records of all losses by name; a record's file is imported when it is asked for."""
