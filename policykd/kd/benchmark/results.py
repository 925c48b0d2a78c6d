"""The outcome of a benchmark: every seed's value of every method, and the means, effects and intervals of them."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from policykd.errors import OutputError
from policykd.kd.benchmark.config import BenchConfig
from policykd.kd.benchmark.measures import MEASURES
from policykd.kd.experiments.results import LEAST_SEEDS
from policykd.plain import as_plain
from policykd.stats import Interval, bootstrap, paired_difference
from policykd.storage import read_json
from policykd.threads import usable_cores

FORMAT_VERSION = 1
RESULT = "result.json"
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
    cells: Mapping[str, Sequence[Mapping[str, Any]]]
    teachers: Sequence[Mapping[str, Mapping[str, float]]]
    seconds: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        config: BenchConfig,
        cells: Iterable[Mapping[str, Any]],
        teachers: Sequence[Mapping[str, Mapping[str, float]]],
        seconds: float = 0.0,
    ) -> BenchResult:
        """Gather the cells of a run, in the order of the seeds."""
        sorted_cells: dict[str, list[Mapping[str, Any]]] = {method: [] for method in config.methods}
        for cell in cells:
            sorted_cells[cell["method"]].append(cell)
        return cls(as_plain(config), sorted_cells, teachers, seconds, _environment())

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
        """Mean over the seeds with its 95 % bootstrap interval."""
        return bootstrap(self.values(method, measure))

    def effect(self, method: str, measure: str) -> Interval:
        """Mean paired difference to the baseline with its 95 % bootstrap interval."""
        return paired_difference(self.values(method, measure), self.values(self.baseline, measure))

    def verdict(self, method: str, measure: str) -> Verdict:
        """``better`` or ``worse`` than the baseline where the whole interval of the effect is on one side of 0."""
        if method == self.baseline:
            return "baseline"
        if self.seeds < LEAST_SEEDS:
            return "too few seeds"
        effect = self.effect(method, measure)
        if effect.low <= 0.0 <= effect.high:
            return "not shown"
        return "better" if (effect.low > 0) == (MEASURES[measure].better == "higher") else "worse"

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
            OutputError: A field is missing or garbled, or the format is newer.
        """
        format_version = content.get("format_version")
        if not isinstance(format_version, int) or format_version > FORMAT_VERSION:
            raise OutputError(f"the result has format {format_version}; this policykd reads up to {FORMAT_VERSION}")
        try:
            result = cls(**{key: value for key, value in content.items() if key not in ("format_version", "summary")})
            for measure in MEASURES:
                result.effect(result.baseline, measure)
                lengths = {len(result.values(method, measure)) for method in result.methods}
                if lengths != {result.seeds}:
                    raise ValueError(f"{measure}: {sorted(lengths)} values for {result.seeds} seeds")
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise OutputError(f"the result lacks or garbles {error}; run the benchmark again with --resume") from None
        return result

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


def _environment() -> dict[str, str]:
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    found["processor"] = f"{_processor()}, {usable_cores()} usable cores"
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # an optional part, or a source tree that was never installed
            continue
    return found


def _processor() -> str:
    """The processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
