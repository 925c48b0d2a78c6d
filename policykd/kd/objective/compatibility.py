"""Which losses have a meaning for which outputs; a term without one is refused when its objective is made."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from policykd.errors import ConfigError
from policykd.kd.objective.outputs import Kind, Outputs
from policykd.kd.objective.terms import Term
from policykd.kd.registry import LOSSES

_TORCH_KINDS: Mapping[type[nn.Module], tuple[Kind, ...]] = {
    nn.CrossEntropyLoss: ("single_label",),
    nn.NLLLoss: ("single_label",),
    nn.MultiMarginLoss: ("single_label",),
    nn.BCEWithLogitsLoss: ("multi_label",),
    nn.MultiLabelSoftMarginLoss: ("multi_label",),
}


def check_terms(terms: Mapping[str, Term], outputs: Outputs) -> None:
    """Check that every loss on outputs or labels has a meaning for such outputs.

    Raises:
        ConfigError: One has none; the message names those that have.
    """
    for name, term in terms.items():
        kind = type(term.loss).__name__
        if term.student_taps and not term.call.uses_labels:
            continue
        kinds = kinds_of(term.loss)
        if kinds is not None and outputs.kind not in kinds:
            raise ConfigError(
                f"term {name!r}: {kind} is for outputs of kind {' or '.join(kinds)}, these are {outputs.kind}; "
                f"losses for them: {', '.join(suitable_losses(outputs))}"
            )
        if outputs.has_events and getattr(term.loss, "batch_coupled", False) and not term.student_taps:
            raise ConfigError(
                f"term {name!r}: {kind} compares the samples of a batch, which has no meaning for the events of "
                f"outputs {outputs.layout}; losses for them: {', '.join(suitable_losses(outputs))}"
            )


def kinds_of(loss: nn.Module) -> tuple[Kind, ...] | None:
    """Return the kinds of outputs that a loss is for; None where it does not say."""
    for kind, known in _TORCH_KINDS.items():
        if isinstance(loss, kind):
            return known
    return getattr(loss, "kinds", None)


def takes_distributions(loss: nn.Module) -> bool:
    """Whether a loss of torch takes soft labels and does not check that they are distributions."""
    return isinstance(loss, nn.CrossEntropyLoss)


def suitable_losses(outputs: Outputs) -> list[str]:
    """Return the names of the registered losses on outputs that have a meaning for these."""
    kinds = {name: info.load() for name, info in LOSSES.items()}
    return [
        name
        for name, kind in kinds.items()
        if getattr(kind, "signal", "") == "logits"
        and outputs.kind in getattr(kind, "kinds", ())
        and not (outputs.has_events and getattr(kind, "batch_coupled", False))
    ]
