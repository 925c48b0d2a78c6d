"""Ranges of recipes' fields as types; a recipe checks its fields against them when it is made.

``from_plain`` reads the same ranges from ``--set`` and from files. Nothing here loads torch.
"""

from __future__ import annotations

from typing import Annotated

from policykd.plain import Limits

Weight = Annotated[float, Limits(0.0, 1e6)]
"""Weight of a loss."""

Share = Annotated[float, Limits(0.0, 1.0)]
"""Share of a whole, or a probability."""

Temperature = Annotated[float, Limits(1e-6, 1e6)]
"""Temperature of a softmax."""

Scale = Annotated[float, Limits(1e-12, 1e12)]
"""Number above 0, such as the width of a kernel."""

PerClass = Annotated[int, Limits(2, 40)]
"""Samples per class of a student that sees few digits."""
