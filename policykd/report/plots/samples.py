"""Figures of samples that people would rather look at: generated digits, distilled spectrograms.

It draws arrays that it is given; training and sampling happen elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from policykd.errors import ConfigError
from policykd.report.plots.style import new_figure, set_title


def samples_figure(
    rows: Mapping[str, np.ndarray], labels: Sequence[str] = (), *, color_map: str = "gray", upward: bool = False
) -> Figure:
    """Return a figure with one strip of pictures per row.

    Args:
        rows: Title -> pictures ``(n, H, W)``, at least one per row; every row has a range of its own.
        labels: Names under the pictures of the last row; empty for none.
        color_map: Name of matplotlib's color map.
        upward: Draw the first row of a picture at the bottom, as for spectrograms.

    Raises:
        ConfigError: There are no rows, or pictures are not ``(n, H, W)``.
    """
    if not rows:
        raise ConfigError("rows is empty; give pictures to draw")
    for title, pictures in rows.items():
        if pictures.ndim != 3 or not len(pictures):
            raise ConfigError(f"row {title!r} has the shape {pictures.shape}; it must be (n, H, W)")
    figure, panels = new_figure(len(rows), 1, (7.2, 1.15 * len(rows)))
    for panel, (title, pictures) in zip(panels, rows.items(), strict=True):
        count, height, width = pictures.shape
        strip = np.full((height, count * (width + 1) - 1), np.nan)
        for place, picture in enumerate(pictures):
            strip[:, place * (width + 1) : place * (width + 1) + width] = picture
        panel.imshow(strip, cmap=color_map, origin="lower" if upward else "upper", interpolation="nearest")
        set_title(panel, title)
        panel.grid(False)
        panel.set_yticks([])
        panel.set_xticks([])
        for side in panel.spines.values():
            side.set_visible(False)
        if labels and title == list(rows)[-1]:
            panel.set_xticks([place * (width + 1) + width / 2 for place in range(count)], labels)
    return figure
