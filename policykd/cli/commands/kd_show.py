"""``policykd kd show``: print the record of one loss.

Options and printing only; the work is in ``policykd.kd.registry``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from policykd.kd.registry import LossInfo, Preset


@dataclass(frozen=True)
class KdShow:
    """Show one loss: paper, equation, variants, departures from the paper, presets."""

    name: tyro.conf.Positional[str]
    """Name of the loss, for example crd, or my_package.my_loss:INFO."""

    def run(self, console: Console) -> None:
        """Print the record of the loss.

        Raises:
            UnknownNameError: for an unknown loss; close matches are named.
        """
        from policykd.kd.registry import LOSSES

        print_loss(LOSSES.get(self.name), console)


def print_loss(info: LossInfo, console: Console) -> None:
    """Print paper, equation, variants, departures from the paper, and presets with their sources."""
    console.print(Text.assemble((info.name, "bold"), f": {info.title}"), highlight=False)
    for label, text in _facts(info):
        console.print(Text.assemble((f"{label:<10}", "dim"), f" {text}"), highlight=False)


def _facts(info: LossInfo) -> Iterator[tuple[str, str]]:
    yield "paper", f"{info.paper}. {info.venue}, {info.year}"
    yield "equation", info.equation
    yield "family", info.family
    yield "needs", ", ".join(info.needs)
    yield "module", _module(info)
    traits = {
        "remembers samples between calls": info.stateful,
        "may hold parameters for the optimizer": info.trainable,
        "compares the samples of a batch": info.batch_coupled,
    }
    yield "traits", "; ".join(text for text, holds in traits.items() if holds) or "none: a value per sample"
    yield from (("variant", f"{name}: {text}") for name, text in info.variants.items())
    yield from (("departure", text) for text in info.deviations)
    yield from (("preset", _preset(preset)) for preset in info.presets)


def _module(info: LossInfo) -> str:
    """Return the Python path of the loss."""
    module, _, kind = info.loss.partition(":")
    if module == f"policykd.kd.losses.{info.name}":
        return f"policykd.kd.losses.{kind}, function policykd.kd.functional.{info.name}"
    return f"{module}.{kind}"


def _preset(preset: Preset) -> str:
    added = {"cross-entropy": preset.ce_weight, "plain KD": preset.kd_weight}
    parts = [f"weight {preset.weight:g}", *(f"{label} {weight:g}" for label, weight in added.items() if weight)]
    parts += [f"{name}={value}" for name, value in preset.options.items()]
    if preset.warmup:
        parts.append(f"rising over {preset.warmup} epochs")
    return f"{preset.name}: {', '.join(parts)} ({preset.source}; {preset.mark})"
