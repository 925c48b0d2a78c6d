"""Domain randomization as data: what varies between episodes, and how much. Everything is off by default.

The record knows neither robots nor engines; ``randomizer`` applies it to simulations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from policykd.errors import ConfigError, check_range

Range = tuple[float, float]


@dataclass(frozen=True)
class Randomization:
    """Random physics and sensors of the simulations of an environment.

    Factors, delays and joints are drawn from uniform distributions at the start of every episode, each simulation with
    its own. At the defaults nothing is drawn, and results are those of an environment without randomization.

    Attributes:
        friction: range of the factor of the sliding friction between robot and ground; None for 1.
        mass: range of the factor of mass and inertia of the base; None for 1.
        stiffness: range of the factors of the joints' position gains, or of the motors' gears of robots that are
            simulated as their model files say; one factor per actuator; None for 1.
        damping: range of the factors of the actuated joints' damping; one per joint; None for 1.
        push_speed: largest change of the base's horizontal velocity by a push, m/s, in every direction that the base
            can move in; 0 for no pushes.
        push_interval: mean time between two pushes, s; they come at random.
        latency: smallest and largest delay of the actions, whole policy steps.
        noise: half width of the uniform noise on the features of observation groups, by group, in the features' units.

    Raises:
        ConfigError: for a range that is not ascending or out of bounds.
    """

    friction: Range | None = None
    mass: Range | None = None
    stiffness: Range | None = None
    damping: Range | None = None
    push_speed: float = 0.0
    push_interval: float = 5.0
    latency: tuple[int, int] = (0, 0)
    noise: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        for name in ("friction", "mass", "stiffness", "damping"):
            span = getattr(self, name)
            if span is not None and not 0.01 <= span[0] <= span[1] <= 100.0:
                raise ConfigError(f"randomization.{name} is {span}; it must be two ascending factors in [0.01, 100]")
        check_range("randomization.push_speed", self.push_speed, 0.0, 100.0, "m/s")
        check_range("randomization.push_interval", self.push_interval, 1e-3, 1e6, "s")
        if not 0 <= self.latency[0] <= self.latency[1] <= 1000:
            raise ConfigError(
                f"randomization.latency is {self.latency}; it must be two ascending numbers of steps in [0, 1000]"
            )
        for group, width in self.noise:
            check_range(f"randomization.noise of {group}", width, 0.0, 1e6)

    @property
    def changes_physics(self) -> bool:
        """Whether anything but the observations is random."""
        return replace(self, noise=(), push_interval=OFF.push_interval) != OFF

    @property
    def latest(self) -> int:
        """Largest delay of the actions, policy steps."""
        return self.latency[1]


OFF = Randomization()
"""Nothing is random."""
