"""Results: every seed's value of every arm and metric, and the intervals and verdicts that derive from them.

It reads and writes records and trains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from policykd.environment import environment
from policykd.errors import ConfigError, OutputError
from policykd.kd.experiments.decisions import contrast, correct, decide, effect_of, p_value
from policykd.kd.experiments.experiment import Cell, Comparison, Experiment, Verdict
from policykd.plain import as_plain, from_plain, versioned
from policykd.stats import Interval

FORMAT_VERSION = 1
LEAST_SEEDS = 5  # fewer differences show too little of their spread
_PACKAGES = ("policykd", "torch", "numpy")

Values = Mapping[str, Mapping[str, tuple[float, ...]]]  # arm -> metric -> one value per seed


@dataclass(frozen=True)
class Outcome:
    """What the seeds say about one comparison.

    Attributes:
        comparison: what was asked.
        effect: mean effect over the seeds with its 95 % interval by Student's t, which is not corrected.
        p_value: two-sided p-value of an effect that equals the gate.
        corrected: the same, corrected by Holm with the other required claims of the system (the optional ones among
            themselves).
        verdict: ``shown`` when `corrected` is below 5 % and the effect is beyond the gate, ``contradicted`` when it is
            below 5 % and the effect is on the other side.
    """

    comparison: Comparison
    effect: Interval
    p_value: float
    corrected: float
    verdict: Verdict


@dataclass(frozen=True)
class Result:
    """The outcome of an experiment.

    Attributes:
        name: the system.
        title: the method in a few words.
        paper: where it is from.
        claim: what was tested.
        config: the resolved configuration as plain values.
        seeds: the seeds, in order.
        values: arm -> metric -> one value per seed.
        comparisons: what decides the claim.
        notes: what must be said in words.
        seconds: time of all cells together, s.
        environment: versions and processor.
    """

    name: str
    title: str
    paper: str
    claim: str
    config: Mapping[str, Any]
    seeds: tuple[int, ...]
    values: Values
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, experiment: Experiment, config: Any, cells: Mapping[int, Cell], seconds: float = 0.0) -> Result:
        """Gather the cells of an experiment.

        Args:
            experiment: the experiment.
            config: the configuration that the cells ran with.
            cells: seed to cell, at least one.
            seconds: time of all cells together, s.

        Raises:
            ConfigError: there is no cell, or cells differ in arms or metrics.
        """
        return cls(
            experiment.name,
            experiment.title,
            experiment.paper,
            experiment.claim,
            as_plain(config),
            tuple(sorted(cells)),
            _gathered(experiment.name, cells),
            experiment.comparisons,
            experiment.notes,
            seconds,
            environment(_PACKAGES),
        )

    @cached_property
    def outcomes(self) -> tuple[Outcome, ...]:
        """One per comparison; equal values give equal digits."""
        return judge(self.comparisons, self.values)

    @property
    def verdict(self) -> Verdict:
        """``contradicted`` if a required comparison is, else ``shown`` if every required one is."""
        verdicts = {outcome.verdict for outcome in self.outcomes if outcome.comparison.required}
        order: tuple[Verdict, ...] = ("too few seeds", "contradicted", "not shown", "shown")
        return next(verdict for verdict in order if verdict in verdicts)

    def to_json(self) -> dict[str, Any]:
        """Everything, with effects and verdicts for readers who only want those."""
        plain = as_plain(self)
        for entry, outcome in zip(plain["comparisons"], self.outcomes, strict=True):
            entry |= {"effect": asdict(outcome.effect), "p_value": outcome.p_value, "corrected": outcome.corrected}
            entry |= {"verdict": outcome.verdict}
        return {"format_version": FORMAT_VERSION, "verdict": self.verdict, **plain}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Result:
        """Read what :meth:`to_json` gave; effects and verdicts are computed again.

        Raises:
            OutputError: if a field is missing or garbled, or the format is newer.
        """
        given = versioned(content, FORMAT_VERSION, "the result")
        result = from_plain(cls, given, error=_invalid, strict=True, ignore_unknown=True)
        try:
            _ = result.verdict
        except (KeyError, ValueError, TypeError, StopIteration) as error:
            raise _invalid(f"its comparisons do not fit its values ({error})") from None
        return result


def judge(comparisons: Sequence[Comparison], values: Values) -> tuple[Outcome, ...]:
    """Decide the comparisons of one system from every seed's values; they are corrected together.

    Args:
        comparisons: what is asked.
        values: arm -> metric -> one value per seed.

    Raises:
        ConfigError: an interval cannot be computed, such as that of a ratio to a baseline of 0.
    """
    effects = [effect_of(comparison, values) for comparison in comparisons]
    beyond = [contrast(comparison, values) for comparison in comparisons]
    if any(len(values) < LEAST_SEEDS for values in beyond):
        return tuple(
            Outcome(one, effect, 1.0, 1.0, "too few seeds") for one, effect in zip(comparisons, effects, strict=True)
        )
    p_values = [p_value(values) for values in beyond]
    corrected = correct(comparisons, p_values)
    return tuple(
        Outcome(one, effect, p, together, decide(values, together))
        for one, effect, values, p, together in zip(comparisons, effects, beyond, p_values, corrected, strict=True)
    )


def _gathered(name: str, cells: Mapping[int, Cell]) -> dict[str, dict[str, tuple[float, ...]]]:
    if not cells:
        raise ConfigError(f"{name}: there is no cell")
    seeds = sorted(cells)
    first = cells[seeds[0]]
    for seed in seeds:
        if {arm: set(metrics) for arm, metrics in cells[seed].items()} != {arm: set(m) for arm, m in first.items()}:
            raise ConfigError(f"{name}: seeds {seeds[0]} and {seed} have other arms or metrics")
    return {
        arm: {metric: tuple(float(cells[seed][arm][metric]) for seed in seeds) for metric in metrics}
        for arm, metrics in first.items()
    }


def _invalid(reason: str) -> OutputError:
    return OutputError(f"the result is not valid: {reason}; run it again")
