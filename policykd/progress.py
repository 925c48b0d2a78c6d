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


class Named:
    """Passes everything on under longer names, so that equal pieces of work of several jobs can be told apart.

    Args:
        progress: who watches.
        prefix: what stands in front of every name.
    """

    def __init__(self, progress: Progress, prefix: str) -> None:
        self._progress, self._prefix = progress, prefix

    def begin(self, name: str, total: int, unit: str) -> None:
        """See :class:`Progress`."""
        self._progress.begin(f"{self._prefix}: {name}", total, unit)

    def update(self, name: str, done: int, **figures: float) -> None:
        """See :class:`Progress`."""
        self._progress.update(f"{self._prefix}: {name}", done, **figures)

    def end(self, name: str, message: str = "") -> None:
        """See :class:`Progress`."""
        self._progress.end(f"{self._prefix}: {name}", message)
