"""What an experiment is: arms that are trained side by side on paired seeds, and comparisons that decide a claim.

A claim is decided by what was written down before the run: the metric, the two arms, the side that is better and the
gate. A comparison is *shown* when the effect is beyond the gate, and *contradicted* when it is on the other side, by a
t-test that is corrected for the other claims of the system; everything between is *not shown*, which is not a proof of
the opposite.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

from policykd.errors import ConfigError, UnknownNameError, check_range

Cell = Mapping[str, Mapping[str, float]]  # arm -> metric -> value, of one seed
Run = Callable[[int, Any], Cell]
Verdict = Literal["shown", "not shown", "contradicted", "too few seeds"]


@dataclass(frozen=True)
class Comparison:
    """One pre-registered comparison between two arms, or of one arm with a bound.

    Attributes:
        metric: which value of the arms is compared.
        student: the arm that the claim is about.
        baseline: the arm that it is compared with; None compares the student's own value with the gate.
        better: which side of the gate is the claimed one.
        gate: bound on the effect, in the metric's unit for a difference, without unit for a ratio.
        required: whether the experiment's verdict depends on it.
        statistic: ``difference`` of means, student less baseline, or ``ratio`` of means, student over baseline.
        text: the claim as a sentence that can be read alone; an experiment needs one for every comparison.

    Raises:
        ConfigError: an option is out of range, or they do not fit together.
    """

    metric: str
    _: KW_ONLY
    student: str
    baseline: str | None = None
    better: Literal["higher", "lower"]
    gate: float = 0.0
    required: bool = True
    statistic: Literal["difference", "ratio"] = "difference"
    text: str = ""

    def __post_init__(self) -> None:
        if self.better not in ("higher", "lower"):
            raise ConfigError(f"better is 'higher' or 'lower', not {self.better!r}")
        if self.statistic not in ("difference", "ratio"):
            raise ConfigError(f"statistic is 'difference' or 'ratio', not {self.statistic!r}")
        if not math.isfinite(self.gate):
            raise ConfigError(f"gate must be finite, got {self.gate}")
        if self.statistic == "ratio" and (self.baseline is None or self.gate <= 0):
            raise ConfigError(f"a ratio needs a baseline and a gate above 0, got {self.baseline!r} and {self.gate}")
        if self.baseline == self.student:
            raise ConfigError(f"arm {self.student!r} is compared with itself")

    def says(self, text: str) -> Comparison:
        """Return the comparison with its claim as a sentence that can be read alone."""
        return dataclasses.replace(self, text=text)

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that it reads."""
        return (self.student,) if self.baseline is None else (self.student, self.baseline)


@dataclass(frozen=True)
class Experiment:
    """A system's experiment.

    Attributes:
        name: the system's name, which is its module's.
        title: the method in a few words.
        paper: authors, venue, year, arXiv number.
        claim: what the experiment tests, in one sentence.
        config: the default configuration, a frozen dataclass.
        run: ``run(seed, config)`` trains every arm of one paired cell and returns arm -> metric -> finite value.
        comparisons: what decides the claim; at least one is required.
        notes: what the output must say in words: departures, what this small setting cannot show.
        seeds: number of seeds that the verdict is meant for.

    Raises:
        ConfigError: a field is out of range.
    """

    name: str
    title: str
    paper: str
    claim: str
    config: Any
    run: Run
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()
    seeds: int = 10

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ConfigError(f"a system is named as its module is, not {self.name!r}")
        if not dataclasses.is_dataclass(self.config) or isinstance(self.config, type):
            raise ConfigError(f"{self.name}: config must be a dataclass instance, got {type(self.config).__name__}")
        if not any(comparison.required for comparison in self.comparisons):
            raise ConfigError(f"{self.name}: at least one comparison must be required, or nothing decides the claim")
        for comparison in self.comparisons:
            if not comparison.text:
                arms = " and ".join(comparison.arms)
                raise ConfigError(f"{self.name}: the claim about {comparison.metric} of {arms} needs a sentence: .says")
        check_range(f"{self.name}: seeds", self.seeds, 1, 10_000)

    def check_cell(self, cell: Cell) -> None:
        """Check what ``run`` returned.

        Raises:
            UnknownNameError: a comparison asks for an arm or a metric that is not there.
            ConfigError: a value is not finite.
        """
        for arm, metrics in cell.items():
            for metric, value in metrics.items():
                if not math.isfinite(value):
                    raise ConfigError(f"{self.name}: {metric} of arm {arm!r} is {value}; the training diverged")
        for comparison in self.comparisons:
            for arm in comparison.arms:
                if arm not in cell:
                    raise UnknownNameError(f"arm of {self.name}", arm, cell)
                if comparison.metric not in cell[arm]:
                    raise UnknownNameError(f"metric of {self.name}, arm {arm!r}", comparison.metric, cell[arm])


def with_gates(comparisons: Sequence[Comparison], gates: Sequence[float]) -> tuple[Comparison, ...]:
    """Return comparisons whose required ones have the gates that a power calculation planned, in their order.

    Args:
        comparisons: The comparisons.
        gates: One per required comparison, see :mod:`policykd.kd.experiments.power`; empty keeps those that they have.

    Raises:
        ConfigError: There are more or fewer gates than required comparisons.
    """
    required = sum(comparison.required for comparison in comparisons)
    if not gates:
        return tuple(comparisons)
    if len(gates) != required:
        raise ConfigError(f"gates has {len(gates)} values; there are {required} required comparisons")
    planned = iter(gates)
    return tuple(dataclasses.replace(one, gate=next(planned)) if one.required else one for one in comparisons)
