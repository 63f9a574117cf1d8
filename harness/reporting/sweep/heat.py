"""A map over two axes: each cell the ratio to the first arm; one panel per arm, with the line where the lead changes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle

from harness.core.text import wrapped
from harness.experiment.sweep.axes import Axis
from harness.reporting.figures.picture import Picture, titled
from harness.reporting.figures.ratio_axis import ratio_ticks
from harness.reporting.figures.style import INK, drawable, plain_number
from harness.reporting.sweep.crossing import scaled
from harness.reporting.sweep.crossings import Found
from harness.reporting.wording import ratio

COLOURS = "PuOr"
"""Orange if the arm is slower, violet if it is faster, white if there is no difference; readable by the colour-blind."""
COLUMNS = 2


def draw_heat(
    panels: Mapping[str, pd.DataFrame], x: Axis, y: Axis, base: str, metric: str, found: Sequence[Found], note: str
) -> Picture | None:
    """A panel for each name of an arm. Its rows have at most one cell for a value of ``x`` and ``y``; None without any ratio.

    ``found``: crossings along ``x``, of which those of a panel's arm with ``base`` are drawn as a line.
    """
    panels = {name: rows for name, rows in panels.items() if rows["ratio"].notna().any()}
    if not panels:
        return None
    across = min(COLUMNS, len(panels))
    down = -(-len(panels) // across)
    width, height = max(8.0, 1.6 + across * (1.1 + 0.95 * len(x.values))), 1.5 + down * (1.1 + 0.62 * len(y.values))
    picture = titled(f"{metric} of TTFT / that of {drawable(base)}", min(width, 16.0), min(height, 18.0), note.split("\n"))
    axes = picture.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    limit = _limit(panels)
    mesh: Any = None
    for place, (name, rows) in enumerate(panels.items()):
        mine = [one for one in found if one.axis == x.key and one.base == base and one.candidate == name]
        mesh = _panel(axes[place // across][place % across], rows, x, y, limit, mine)
        axes[place // across][place % across].set_title(wrapped(drawable(name), 40), loc="left", fontsize=9)
    for place in range(len(panels), across * down):
        axes[place // across][place % across].set_visible(False)
    for column in range(across):
        axes[-1][column].set_xlabel(drawable(x.key))
    for row in range(down):
        axes[row][0].set_ylabel(drawable(y.key))
    bar = picture.colorbar(mesh, ax=axes.ravel().tolist(), pad=0.02, shrink=0.8)
    ticks = ratio_ticks(1 / limit, limit)
    bar.ax.set_yticks(ticks, [plain_number(tick) for tick in ticks])
    bar.ax.minorticks_off()
    bar.set_label("below 1: faster")
    return picture


def _limit(panels: Mapping[str, pd.DataFrame]) -> float:
    """The largest ratio of the colours, as far from 1 as the smallest; 1.2 at least, so that noise looks like noise."""
    ratios = np.concatenate([rows["ratio"].dropna().to_numpy(float) for rows in panels.values()])
    return float(np.exp(max(np.abs(np.log(ratios)).max(), np.log(1.2))))


def _panel(axes: Axes, rows: pd.DataFrame, x: Axis, y: Axis, limit: float, found: Sequence[Found]) -> Any:
    columns, lines = _ordered(x), _ordered(y)
    cells = np.full((len(lines), len(columns)), np.nan)
    for _, row in rows.iterrows():
        place = _index(lines, y, row[y.key]), _index(columns, x, row[x.key])
        if pd.isna(row["ratio"]):
            axes.text(place[1], place[0], str(row["status"]), ha="center", va="center", fontsize=7.5, color=INK)
            continue
        cells[place] = float(row["ratio"])
        _write(axes, place, row, limit)
    axes.set_facecolor("#e4e4e4")
    mesh = axes.imshow(cells, norm=LogNorm(1 / limit, limit), cmap=f"{COLOURS}_r", aspect="auto", origin="lower", alpha=0.85)
    axes.set_xticks(range(len(columns)), [drawable(value) for value in columns])
    axes.set_yticks(range(len(lines)), [drawable(value) for value in lines])
    for side in axes.spines.values():
        side.set_visible(False)
    _line(axes, found, x, y)
    return mesh


def _write(axes: Axes, place: tuple[int, int], row: "pd.Series[Any]", limit: float) -> None:
    """The number, its interval, and a hatch if no difference is shown."""
    if row["arm"] == row["base"]:
        axes.text(place[1], place[0], "1 (base)", ha="center", va="center", fontsize=9, color=INK)
        return
    low, high = row["ratio_low"], row["ratio_high"]
    known = not (pd.isna(low) or pd.isna(high))
    open_ = not known or low <= 1 <= high
    dark = abs(np.log(float(row["ratio"]))) > 0.55 * np.log(limit)
    ink = "white" if dark else INK
    text = ("~" if open_ else "") + ratio(float(row["ratio"]))
    axes.text(place[1], place[0] + 0.12, text, ha="center", va="center", fontsize=9, color=ink)
    below = f"{ratio(float(low))} to {ratio(float(high))}" if known else "unknown"
    axes.text(place[1], place[0] - 0.2, below, ha="center", va="center", fontsize=6.5, color=ink)
    if open_:
        corner = place[1] - 0.5, place[0] - 0.5
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="///", edgecolor="#bbbbbb", linewidth=0, zorder=1.5))


def _line(axes: Axes, found: Sequence[Found], x: Axis, y: Axis) -> None:
    """The places along x where the lead changes, one per value of y, and between which values each is."""
    points = []
    for one in found:
        if set(one.elsewhere) != {y.key} or one.crossing.kind != "one":
            continue
        line = _index(_ordered(y), y, _typed(y, one.elsewhere[y.key]))
        low, high = (_position(x, end) for end in one.crossing.between[0] if end is not None)
        axes.hlines(line, low, high, color=INK, linewidth=1.4, zorder=4)
        points.append((line, _position(x, one.crossing.places[0]) if one.straight else (low + high) / 2))
    if points:
        points.sort()
        axes.plot([at for _, at in points], [line for line, _ in points], "-D", color=INK, markersize=5, linewidth=1.8,
                  markerfacecolor="white", zorder=5)  # fmt: skip


def _ordered(axis: Axis) -> list[str]:
    """The values from left to right, or from below: numbers by size."""
    if axis.numbers is None:
        return list(axis.values)
    return [value for _, value in sorted(zip(axis.numbers, axis.values, strict=True))]


def _typed(axis: Axis, text: str) -> Any:
    return text if axis.numbers is None else float(text)


def _index(ordered: Sequence[str], axis: Axis, value: Any) -> int:
    if axis.numbers is None:
        return list(ordered).index(str(value))
    return [float(text) for text in ordered].index(float(value))


def _position(axis: Axis, value: float) -> float:
    """Between the cells' numbers: logarithmically if the axis is."""
    at = np.array(sorted(axis.numbers or ()))
    by_log = scaled(at.tolist())
    return float(np.interp(np.log(value) if by_log else value, np.log(at) if by_log else at, np.arange(len(at))))
