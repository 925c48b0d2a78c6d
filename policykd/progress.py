"""Progress: what long work tells whoever watches. The library is silent by default; the CLI draws bars."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of named pieces of work."""

    def begin(self, name: str, total: int, unit: str) -> None:
        """A piece of work begins.

        Args:
            name: what is done, for example ``train biped/steps``.
            total: amount of work, in ``unit``.
            unit: for example ``steps``.
        """
        ...

    def update(self, name: str, done: int, **figures: float) -> None:
        """``done`` of the total is done; ``figures`` are the latest measurements by name."""
        ...

    def end(self, name: str, message: str = "") -> None:
        """The piece of work is over; ``message`` says how it ended."""
        ...


class Silent:
    """Shows nothing."""

    def begin(self, name: str, total: int, unit: str) -> None:
        """See :class:`Progress`."""

    def update(self, name: str, done: int, **figures: float) -> None:
        """See :class:`Progress`."""

    def end(self, name: str, message: str = "") -> None:
        """See :class:`Progress`."""
