"""The outcome of a benchmark: every seed's value of every method, and the means, effects and intervals of them.

It reads and writes ``result.json`` and trains nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from policykd.environment import environment
from policykd.errors import OutputError
from policykd.kd.benchmark.config import BenchConfig
from policykd.kd.benchmark.measures import MEASURES
from policykd.kd.experiments.decisions import LEVEL, holm, mean_interval, p_value
from policykd.kd.experiments.power import smallest_effect
from policykd.kd.experiments.results import LEAST_SEEDS
from policykd.plain import as_plain, from_plain, shown, versioned
from policykd.stats import Interval
from policykd.storage import read_json
from policykd.threads import usable_cores

FORMAT_VERSION = 1
RESULT = "result.json"
LARGEST = 1e100
"""Largest magnitude of a measured value; intervals square it."""

_PACKAGES = ("policykd", "torch", "numpy", "scipy", "torchmetrics", "scikit-learn")

Verdict = Literal["better", "worse", "not shown", "too few seeds", "baseline"]


@dataclass(frozen=True)
class BenchResult:
    """The outcome of a benchmark.

    Attributes:
        config: The resolved configuration as plain values, see :class:`policykd.kd.benchmark.config.BenchConfig`.
        cells: Method -> one cell per seed, in the order of the seeds, as :func:`policykd.kd.benchmark.cells.measure`
            gives them.
        teachers: One teacher per seed: ``val`` and ``test`` to figures.
        seconds: Wall time of the last run, s; a resumed run counts what it did itself.
        environment: Versions and processor.
    """

    config: Mapping[str, Any]
    cells: Mapping[str, tuple[Mapping[str, Any], ...]]
    teachers: tuple[Mapping[str, Mapping[str, float]], ...]
    seconds: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        config: BenchConfig,
        cells: Iterable[Mapping[str, Any]],
        teachers: Iterable[Mapping[str, Mapping[str, float]]],
        seconds: float = 0.0,
    ) -> BenchResult:
        """Gather the cells of a run, in the order of the seeds."""
        sorted_cells: dict[str, list[Mapping[str, Any]]] = {method: [] for method in config.methods}
        for cell in cells:
            sorted_cells[cell["method"]].append(cell)
        by_method = {method: tuple(found) for method, found in sorted_cells.items()}
        return cls(as_plain(config), by_method, tuple(teachers), seconds, _environment())

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods, in the order that they were asked for."""
        return tuple(self.cells)

    @property
    def baseline(self) -> str:
        """The method that the others are compared with."""
        return str(self.config["baseline"])

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len(self.teachers)

    @property
    def work_seconds(self) -> float:
        """Time of all cells one after the other, s, without the teachers."""
        return sum(c.get("seconds", 0.0) for cells in self.cells.values() for cell in cells for c in cell["candidates"])

    @property
    def processor_seconds(self) -> float:
        """Processor time of training all cells, s, which other work on the machine hardly changes; no teachers."""
        epochs = int(self.config["train"]["epochs"])
        trained = [c for cells in self.cells.values() for cell in cells for c in cell["candidates"]]
        return sum(c.get("seconds_prepared", 0.0) + epochs * c.get("seconds_per_epoch", 0.0) for c in trained)

    def values(self, method: str, measure: str) -> tuple[float, ...]:
        """One test value per seed."""
        return tuple(cell["test"][measure] for cell in self.cells[method])

    def teacher_values(self, measure: str) -> tuple[float, ...]:
        """One test value per seed's teacher."""
        return tuple(teacher["test"][measure] for teacher in self.teachers)

    def mean(self, method: str, measure: str) -> Interval:
        """Mean over the seeds with its 95 % interval by Student's t."""
        return mean_interval(self.values(method, measure))

    def differences(self, method: str, measure: str) -> np.ndarray:
        """Paired differences to the baseline ``(seeds,)``."""
        return np.array(self.values(method, measure)) - np.array(self.values(self.baseline, measure))

    def effect(self, method: str, measure: str, *, together: bool = False) -> Interval:
        """Mean paired difference to the baseline with its 95 % interval by Student's t.

        Args:
            method: The method.
            measure: The measure.
            together: Widen the interval so that those of all methods hold together with 95 % (Bonferroni).
        """
        return mean_interval(self.differences(method, measure), together=len(self.compared) if together else 1)

    @property
    def compared(self) -> tuple[str, ...]:
        """The methods besides the baseline."""
        return tuple(method for method in self.methods if method != self.baseline)

    def corrected(self, measure: str) -> dict[str, float]:
        """Method -> p-value of a difference of 0 by a paired t-test, corrected by Holm over the methods."""
        return dict(
            zip(self.compared, holm([p_value(self.differences(m, measure)) for m in self.compared]), strict=True)
        )

    def verdict(self, method: str, measure: str) -> Verdict:
        """``better`` or ``worse`` than the baseline where the corrected p-value is below 5 %."""
        if method == self.baseline:
            return "baseline"
        if self.seeds < LEAST_SEEDS:
            return "too few seeds"
        if self.corrected(measure)[method] >= LEVEL:
            return "not shown"
        effect = self.differences(method, measure).mean()
        return "better" if (effect > 0) == (MEASURES[measure].better == "higher") else "worse"

    def detectable(self, method: str, measure: str) -> float:
        """Smallest difference that as many seeds show with 80 % power, given the spread, after the correction."""
        spread = float(self.differences(method, measure).std(ddof=1))
        return smallest_effect(spread, self.seeds, comparisons=len(self.compared))

    def ranked(self, measure: str = "accuracy") -> list[str]:
        """The methods from the best mean to the worst; a tie keeps the order in which they were asked for."""
        sign = -1.0 if MEASURES[measure].better == "higher" else 1.0
        return sorted(self.methods, key=lambda method: sign * sum(self.values(method, measure)))

    def to_json(self) -> dict[str, Any]:
        """Everything, with means and effects for readers who only want those."""
        summary = {
            method: {
                measure: {
                    "values": list(self.values(method, measure)),
                    "mean": as_plain(self.mean(method, measure)),
                    "effect": as_plain(self.effect(method, measure)),
                    "verdict": self.verdict(method, measure),
                }
                for measure in MEASURES
            }
            for method in self.methods
        }
        return {"format_version": FORMAT_VERSION, "summary": summary, **as_plain(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> BenchResult:
        """Read what :meth:`to_json` gave; means and effects are computed again.

        Raises:
            OutputError: If a field is missing or garbled, or the format is newer.
        """
        given = versioned(content, FORMAT_VERSION, "the result")
        result = from_plain(cls, given, error=_invalid, strict=True, ignore_unknown=True)
        result._check_complete()
        return result

    def _check_complete(self) -> None:
        """Raise OutputError unless every method has the value of every measure and seed."""
        try:
            for measure in MEASURES:
                for method in self.methods:
                    _check_numbers(self.values(method, measure), f"{measure} of {method}")
                self.effect(self.baseline, measure)
                lengths = {len(self.values(method, measure)) for method in self.methods}
                if lengths != {self.seeds}:
                    raise ValueError(f"{measure}: {sorted(lengths)} values for {self.seeds} seeds")
        except (KeyError, TypeError, ValueError) as error:
            raise _invalid(f"it lacks or garbles {error}") from None

    @classmethod
    def load(cls, folder: Path) -> BenchResult:
        """Read ``result.json`` of a benchmark's folder.

        Raises:
            OutputError: There is none, or it cannot be read.
        """
        path = folder / RESULT
        if not path.exists():
            raise OutputError(f"{folder} holds no {RESULT}: no benchmark was finished there")
        return cls.from_json(read_json(path))


def _check_numbers(values: Sequence[Any], what: str) -> None:
    """Raise ValueError for a value that is not a number, or whose square is too large for one."""
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{what}: {shown(value)} is not a number")
        if abs(value) > LARGEST:
            raise ValueError(f"{what}: {value:g} is beyond {LARGEST:g}")


def _invalid(reason: str) -> OutputError:
    return OutputError(f"the result is not valid: {reason}; run the benchmark again with --resume")


def _environment() -> dict[str, str]:
    found = environment(_PACKAGES)
    return found | {"processor": f"{found['processor']}, {usable_cores()} usable cores"}
