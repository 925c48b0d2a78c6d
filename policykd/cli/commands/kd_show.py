"""``policykd kd show``: the record of one loss as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from policykd.kd.catalog.record import Method, Preset


@dataclass(frozen=True)
class KdShow:
    """Show one loss: paper, equation, variants, departures, presets."""

    name: tyro.conf.Positional[str]
    """Name of the loss, for example crd."""

    def run(self, console: Console) -> None:
        """Print the record of the loss.

        Raises:
            UnknownNameError: for an unknown loss, with the close matches.
        """
        from policykd.kd.registry import methods

        print_method(methods.get(self.name), console)


def print_method(method: Method, console: Console) -> None:
    """Print paper, equation, variants, departures from the paper, and presets with where their numbers are from."""
    console.print(Text.assemble((method.name, "bold"), f": {method.title}"), highlight=False)
    for label, text in _facts(method):
        console.print(Text.assemble((f"{label:<10}", "dim"), f" {text}"), highlight=False)


def _facts(method: Method) -> Iterator[tuple[str, str]]:
    yield "paper", f"{method.paper}. {method.venue}, {method.year}"
    yield "equation", method.equation
    yield "family", method.family
    yield "needs", ", ".join(method.needs)
    yield "module", f"policykd.kd.losses.{method.loss}, function policykd.kd.functional.{method.name}"
    traits = {
        "remembers samples between calls": method.stateful,
        "may hold parameters for the optimizer": method.trainable,
        "compares the samples of a batch": method.batch_coupled,
    }
    yield "traits", "; ".join(text for text, holds in traits.items() if holds) or "none: a value per sample"
    yield from (("variant", f"{name}: {text}") for name, text in method.variants.items())
    yield from (("departure", text) for text in method.deviations)
    yield from (("preset", _preset(preset)) for preset in method.presets)


def _preset(preset: Preset) -> str:
    beside = {"cross-entropy": preset.ce_weight, "plain KD": preset.kd_weight}
    parts = [f"weight {preset.weight:g}", *(f"{label} {weight:g}" for label, weight in beside.items() if weight)]
    parts += [f"{name}={value}" for name, value in preset.options.items()]
    if preset.warmup:
        parts.append(f"rising over {preset.warmup} epochs")
    return f"{preset.name}: {', '.join(parts)} ({preset.source}; {preset.mark})"
