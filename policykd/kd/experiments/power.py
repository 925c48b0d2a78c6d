"""Power: the effects that a number of seeds can show, and gates that follow from a pilot before the run they are for.

A pilot on other seeds gives mean and spread of each effect. The gate of a claim is the largest bound that a true effect
of the pilot's size is shown to exceed with 80 % probability; where that would not be on the claimed side of 0, the
gate is 0 and the plan states how many seeds would be needed. Nothing here reads the results that are judged.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.optimize import brentq
from scipy.special import nctdtr, stdtrit

from policykd.errors import ConfigError, check_range
from policykd.kd.experiments.decisions import LEVEL, arms_of
from policykd.kd.experiments.experiment import Comparison

POWER = 0.8
"""Probability with which an effect of the stated size is shown."""

MOST_SEEDS = 1000
"""Number of seeds beyond which a plan states that no affordable number shows the effect."""


def smallest_effect(spread: float, seeds: int, *, comparisons: int = 1, power: float = POWER) -> float:
    """Return the smallest true effect that is shown with a power, by the noncentral t distribution.

    Args:
        spread: Standard deviation of the paired differences.
        seeds: Number of seeds, at least 2.
        comparisons: Comparisons that are corrected together; Holm's first and hardest step is counted.
        power: Probability of the verdict *shown*.

    Raises:
        ConfigError: An argument is out of range.
    """
    check_range("seeds", seeds, 2, 10**6)
    check_range("comparisons", comparisons, 1, 10**6)
    check_range("power", power, 0.5, 0.999)
    if not 0 <= spread < math.inf:
        raise ConfigError(f"spread is {spread}; it must be finite and at least 0")
    freedom = seeds - 1
    bound = float(stdtrit(freedom, 1 - LEVEL / (2 * comparisons)))

    def missing(shift: float) -> float:
        return 1.0 - float(nctdtr(freedom, shift, bound)) - power

    return float(brentq(missing, 0.0, 4.0 * bound + 10.0)) * spread / math.sqrt(seeds)


def seeds_needed(effect: float, spread: float, *, comparisons: int = 1, power: float = POWER) -> int | None:
    """Return the fewest seeds, from 5, that show a true effect with a power; None beyond :data:`MOST_SEEDS`."""

    def are_enough(seeds: int) -> bool:  # more seeds show smaller effects, so a bisection finds the fewest
        return smallest_effect(spread, seeds, comparisons=comparisons, power=power) <= effect

    numbers = range(5, MOST_SEEDS + 1)
    found = bisect_left(numbers, True, key=are_enough)
    return numbers[found] if found < len(numbers) else None


@dataclass(frozen=True)
class Pilot:
    """What a pilot says about one claim.

    Attributes:
        mean: Mean effect in the claimed direction, the gate not subtracted.
        spread: Standard deviation of the effects of single seeds.
        seeds: Number of seeds.
    """

    mean: float
    spread: float
    seeds: int

    @classmethod
    def of(cls, comparison: Comparison, values: Mapping[str, Mapping[str, Sequence[float]]]) -> Pilot:
        """Return the pilot of a comparison from every seed's values.

        Raises:
            ConfigError: The comparison is about a ratio, or there are fewer than 3 seeds.
        """
        if comparison.statistic == "ratio":
            raise ConfigError(f"gates are planned for differences; the claim about {comparison.metric} is a ratio")
        own, other = arms_of(comparison, values)
        check_range("seeds of the pilot", len(own), 3, 10**6)
        effects = _sign(comparison) * (own - other)
        return cls(float(effects.mean()), float(effects.std(ddof=1)), len(own))


@dataclass(frozen=True)
class Plan:
    """The plan of one claim.

    Attributes:
        comparison: The claim.
        pilot: What the pilot says.
        detectable: Smallest effect beyond its gate that the planned run shows with 80 % probability.
        gate: The gate, with the sign of the comparison, rounded to two digits toward the easier side.
        needed: Seeds at which a true effect of the pilot's size is shown to exceed 0; None if no affordable number.
    """

    comparison: Comparison
    pilot: Pilot
    detectable: float
    gate: float
    needed: int | None


def plan(comparison: Comparison, pilot: Pilot, seeds: int, *, comparisons: int) -> Plan:
    """Return the plan of a claim.

    A claim whose gate is on the other side of 0 says that an arm is not worse by more than that; its tolerance is a
    choice, which a power calculation cannot make, so it keeps its gate.

    Args:
        comparison: The claim; its gate is only read to find tolerances.
        pilot: A pilot on seeds that the planned run does not use.
        seeds: Seeds of the planned run.
        comparisons: Claims that are corrected together.
    """
    sign = _sign(comparison)
    detectable = smallest_effect(pilot.spread, seeds, comparisons=comparisons)
    tolerance = sign * comparison.gate < 0
    gate = comparison.gate if tolerance else sign * _rounded(max(0.0, pilot.mean - detectable)) + 0.0  # no -0.0
    needed = seeds_needed(pilot.mean, pilot.spread, comparisons=comparisons) if pilot.mean > 0 else None
    return Plan(comparison, pilot, detectable, gate, needed)


def _sign(comparison: Comparison) -> float:
    return 1.0 if comparison.better == "higher" else -1.0


def _rounded(gate: float) -> float:
    """Round a gate down to two significant digits."""
    if gate == 0:
        return 0.0
    digits = 1 - math.floor(math.log10(gate))
    return math.floor(gate * 10**digits) / 10**digits
