"""The form of an observation group, and what groups read besides the state of the robot.

Groups read the state and never write it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from policykd.envs.robots import Family, Robot

if TYPE_CHECKING:
    from policykd.envs.observations.reading import Reading


class Mirrored(NamedTuple):
    """Features after left and right are exchanged: feature i is ``signs[i]`` times feature ``order[i]`` before.

    Attributes:
        order: (size,) features.
        signs: (size,) 1 or -1.
    """

    order: list[int]
    signs: list[float]

    @classmethod
    def same(cls, size: int) -> Mirrored:
        """Return the image of features that the exchange does not change."""
        return cls(list(range(size)), [1.0] * size)


@dataclass
class Surroundings:
    """Inputs of observations other than the robot's state.

    Attributes:
        ground: (n,) ground height under the root, m.
        scan: (n, points) ground heights at the scanner's samples, m.
        cycles: (n,) cycles of the gait clock.
        command: (n, 3) commands of the tasks.
        height: function from positions x and, on maps, y, both (n, q), m, to ground heights (n, q), m.
        last_action: (n, joints) actions of the last step; None for planar robots.
        area: (n, samples) ground heights at the samples of the scanner of an area, m; None for planar robots.
        gait: (n, 2 f + 1) sines and cosines of the phases of the feet and the lowering of the base in leg lengths, 0
            without a gait; None for planar robots.
    """

    ground: torch.Tensor
    scan: torch.Tensor
    cycles: torch.Tensor
    command: torch.Tensor
    height: Callable[..., torch.Tensor]
    last_action: torch.Tensor | None = None
    area: torch.Tensor | None = None
    gait: torch.Tensor | None = None

    def rows(self, which: slice | torch.Tensor) -> Surroundings:
        """Return the surroundings of the simulations ``which``."""

        def height(*place: torch.Tensor) -> torch.Tensor:
            whole = [part.new_zeros(len(self.ground), part.shape[1]) for part in place]
            for all_rows, part in zip(whole, place, strict=True):
                all_rows[which] = part
            return self.height(*whole)[which]

        more = (None if part is None else part[which] for part in (self.last_action, self.area, self.gait))
        return Surroundings(
            self.ground[which], self.scan[which], self.cycles[which], self.command[which], height, *more
        )


@dataclass(frozen=True)
class ObservationGroup:
    """A named block of features.

    Attributes:
        name: name of the group, as policies declare it.
        size: number of features for a robot.
        units: units of the features, in order.
        compute: function from the robot's state, a ``PlanarState`` or ``SpatialState``, and its surroundings to the
            features, (n, size).
        mirrored: function from a robot to the features after left and right are exchanged; None if the group has no
            mirror image.
        lead: function from a robot to two features that the exchange swaps and whose order tells which side leads:
            the forward positions of the feet, for example, the right one first; None if the group has none.
        spatial: whether the group is one of robots in space (True), of planar ones (False), or of both (None).
        family: the family of robots that the group is one of, if ``spatial`` does not say it.
        reading: how the group is read from another one, see :func:`policykd.envs.observations.reading_of`; None for
            clean features.
        spacing: largest distance between two samples of a scanner near the feet, leg lengths; None for groups that do
            not scan the ground. Features of the ground must be more than twice as large.
        parts: function from a robot to the name of the joint, foot or body that each feature is about, empty for
            features of the whole robot; :mod:`policykd.agents.remapping` finds them by it in a robot of another order.
            None if that is not known.
    """

    name: str
    size: Callable[[Robot], int]
    units: str
    compute: Callable[[Any, Surroundings], torch.Tensor]
    mirrored: Callable[[Robot], Mirrored] | None = None
    lead: Callable[[Robot], tuple[int, int] | None] | None = None
    spatial: bool | None = None
    family: Family | None = None
    reading: Reading | None = None
    spacing: float | None = None
    parts: Callable[[Robot], list[str]] | None = None

    def fits(self, robot: Robot) -> bool:
        """Return whether a robot has this group."""
        if self.family is not None or robot.family == "model":
            return robot.family == self.family
        return self.spatial in (None, robot.spatial)
