"""Progress reporting for long-running work. The library is silent by default; the CLI draws bars."""

from __future__ import annotations

from typing import Protocol

from typing_extensions import override


class Progress(Protocol):
    """Receives reports about named activities."""

    def begin(self, name: str, total: int, unit: str) -> None:
        """Report that an activity begins.

        Args:
            name: the activity, for example ``train biped/steps``.
            total: amount of work, in ``unit``.
            unit: for example ``steps``.
        """
        ...

    def update(self, name: str, done: int, **figures: float) -> None:
        """Report progress.

        Args:
            name: the activity.
            done: finished amount of work, of its ``total``.
            **figures: latest metrics by name.
        """
        ...

    def end(self, name: str, message: str = "") -> None:
        """Report that an activity has ended; ``message`` is its outcome."""
        ...


class Silent(Progress):
    """Discards all reports."""

    @override
    def begin(self, name: str, total: int, unit: str) -> None:
        pass

    @override
    def update(self, name: str, done: int, **figures: float) -> None:
        pass

    @override
    def end(self, name: str, message: str = "") -> None:
        pass


class Named(Progress):
    """Forwards all reports with a prefix before the name, so that the same activity of several jobs can be told apart.

    Args:
        progress: progress reporter that gets the reports.
        prefix: text before every name.
    """

    def __init__(self, progress: Progress, prefix: str) -> None:
        self._progress, self._prefix = progress, prefix

    @override
    def begin(self, name: str, total: int, unit: str) -> None:
        self._progress.begin(f"{self._prefix}: {name}", total, unit)

    @override
    def update(self, name: str, done: int, **figures: float) -> None:
        self._progress.update(f"{self._prefix}: {name}", done, **figures)

    @override
    def end(self, name: str, message: str = "") -> None:
        self._progress.end(f"{self._prefix}: {name}", message)
