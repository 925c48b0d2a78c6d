"""Recurrent layers of foreign policies as arrays: LSTM and GRU with torch's layout of gates.

It finds and checks weights; running them is in ``policykd.agents.recurrent_policy``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from policykd.errors import PolicyFileError

_GATES = {4: "lstm", 3: "gru"}


@dataclass(frozen=True, eq=False)
class Recurrence:
    """A recurrent layer in front of the actor's dense layers.

    Attributes:
        kind: ``lstm`` or ``gru``.
        input_weight: (gates * hidden, inputs).
        hidden_weight: (gates * hidden, hidden).
        input_bias: (gates * hidden,).
        hidden_bias: (gates * hidden,).
    """

    kind: str
    input_weight: np.ndarray
    hidden_weight: np.ndarray
    input_bias: np.ndarray
    hidden_bias: np.ndarray

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Weights and biases under the names of torch's recurrent cells."""
        return {
            "weight_ih": self.input_weight,
            "weight_hh": self.hidden_weight,
            "bias_ih": self.input_bias,
            "bias_hh": self.hidden_bias,
        }

    @property
    def inputs(self) -> int:
        """Features that it reads."""
        return int(self.input_weight.shape[1])

    @property
    def hidden(self) -> int:
        """Numbers of its hidden state."""
        return int(self.hidden_weight.shape[1])


def recurrence(weights: Mapping[str, np.ndarray], prefix: str) -> Recurrence | None:
    """Return the recurrent layer of a prefix; None if there is none.

    Raises:
        PolicyFileError: for more than one layer, or weights that are neither those of an LSTM nor of a GRU.
    """
    if f"{prefix}.weight_ih_l1" in weights:
        raise PolicyFileError(f"its recurrent part {prefix} has several layers; one is imported")
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    parts = [weights.get(f"{prefix}.{name}") for name in names]
    if parts[0] is None:
        return None
    if any(part is None for part in parts):
        raise PolicyFileError(f"its recurrent part {prefix} lacks weights or biases")
    inputs, hidden, *_ = found = [part for part in parts if part is not None]
    rows = len(inputs)
    shaped = inputs.ndim == hidden.ndim == 2 and hidden.shape == (rows, hidden.shape[1])
    gates = rows // hidden.shape[1] if shaped and hidden.shape[1] else 0
    if gates not in _GATES or rows != gates * hidden.shape[1] or any(p.shape != (rows,) for p in found[2:]):
        raise PolicyFileError(f"its recurrent part {prefix} is neither an LSTM nor a GRU: {[p.shape for p in found]}")
    return Recurrence(_GATES[gates], *found)
