"""What a user tells about a file that the file does not say itself.

It is plain data; importing it loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ImportOptions:
    """Facts from the training's configuration.

    Attributes:
        activation: activation of the hidden layers, for files that name none: ``elu``, ``relu``, ``silu`` or ``tanh``.
        normalizer: file with the normalizer's statistics; None to look for it next to the policy.
        normalized: False to import without a normalizer although the training had one.
        low: lower bounds of the action space, for files that do not hold it; one for all actions, or one each.
        high: upper bounds, in the same way.
        wrapper: what a wrapper of the training's environment added to the observations: ``time-feature:STEPS``,
            ``frame-stack:N`` (zeros before the episode) or ``frame-stack-first:N`` (its first observation there); empty
            for what the training's configuration says.
        dead_inputs: what becomes of features that hardly moved in training: ``mean``, they count as their means;
            ``drop``, they are not read; empty to read them as they are.
    """

    activation: str | None = None
    normalizer: Path | None = None
    normalized: bool | None = None
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    wrapper: str = ""
    dead_inputs: str = ""
