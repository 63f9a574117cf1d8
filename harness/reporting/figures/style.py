"""How all pictures look: colours, lines, hatches, units, text. Readable without colour and by the colour-blind.

Text from outside is drawn as it is: no mathtext, no glyph that the font lacks.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.font_manager import findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from harness.core.text import printable, wrapped
from harness.results.evidence import Arm, Evidence

FONT = "DejaVu Sans"  # comes with matplotlib, so pictures look the same everywhere
INK, FAINT, GRID, PAPER = "#222222", "#767676", "#dddddd", "#ffffff"
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
"""Okabe and Ito's palette (https://jfly.uni-koeln.de/color/)."""

_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
BOUND_COLOURS = ("#666666", "#999999")
"""Of the floor, and of recompute."""
_LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (6, 1.5, 1.5, 1.5)), (0, (2, 1)), (0, (6, 1.5, 1.5, 1.5, 1.5, 1.5)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", "h")
LOGARITHMIC = "logarithmic axis"
LOG_FROM = 20
"""An axis becomes logarithmic if the largest value is more than this many times the smallest."""


@dataclass(frozen=True, slots=True)
class Look:
    """One arm in every picture."""

    colour: str
    line: Any
    marker: str


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit for an axis: ``value_in_seconds * scale`` is in ``name``."""

    scale: float
    name: str


@contextmanager
def paper() -> Iterator[None]:
    """Inside it, pictures are made with these settings whatever the user's matplotlibrc says."""
    settings: dict[Any, Any] = {
        "font.family": FONT,
        "font.size": 9,
        "text.parse_math": False,
        "axes.unicode_minus": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.grid": False,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "hatch.linewidth": 0.7,
        "legend.frameon": False,
        "svg.fonttype": "none",  # text stays text: it can be found, read aloud and copied
        "svg.hashsalt": "ttft",  # the same run gives the same file
        "figure.dpi": 150,
        "savefig.dpi": "figure",
        "text.hinting": "none",  # three times faster, and just as sharp at this size
        "path.simplify": True,
    }
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(settings)
        yield


def looks(arms: Sequence[Arm]) -> dict[str, Look]:
    """A look for every arm, stable in the order of the arms; the bounds are grey and dotted."""
    found, number = {}, 0
    for arm in arms:
        if arm.bound:
            floor = arm.engine == "floor"
            found[arm.name] = Look(BOUND_COLOURS[0 if floor else 1], (0, (1, 1.2)), "2" if floor else "1")
        else:
            line = _LINES[number % len(_LINES)]
            found[arm.name] = Look(_COLOURS[number % len(_COLOURS)], line, _MARKERS[number % len(_MARKERS)])
            number += 1
    return found


def unit_of(seconds: "np.ndarray[Any, Any]") -> Unit:
    """Seconds from 3 s on, microseconds below 1 ms, else milliseconds; by the largest value."""
    largest = float(np.max(seconds)) if len(seconds) else 0.0
    if largest >= 3:
        return Unit(1.0, "s")
    return Unit(1e6, "µs") if 0 < largest < 1e-3 else Unit(1e3, "ms")


def candidates(evidence: Evidence) -> "np.ndarray[Any, Any]":
    """TTFTs, in seconds, of the arms that are no bounds."""
    bounds = [arm.name for arm in evidence.arms if arm.bound]
    return evidence.rows.loc[~evidence.rows["arm"].isin(bounds), "ttft_s"].to_numpy(float)


def dots(axes: Axes, x: Any, y: Any, look: Look, size: float, alpha: float) -> Line2D:
    """Points in the look of an arm, ``size`` in points across."""
    edge = 0.0 if look.marker not in "12" else 0.8
    style: dict[str, Any] = {"color": look.colour, "alpha": alpha, "markeredgewidth": edge}
    return axes.plot(np.asarray(x), np.asarray(y), look.marker, markersize=size, linestyle="none", **style)[0]


def path(axes: Axes, x: Any, y: Any, look: Look) -> Line2D:
    """A line with a marker at each point, in the look of an arm."""
    style: dict[str, Any] = {"color": look.colour, "linestyle": look.line, "marker": look.marker}
    return axes.plot(np.asarray(x), np.asarray(y), linewidth=1.5, markersize=6, **style)[0]


def gridded(axes: Axes, axis: Literal["both", "x", "y"] = "both") -> None:
    """Grid lines behind what is drawn."""
    axes.grid(True, axis=axis)
    axes.set_axisbelow(True)


@lru_cache(maxsize=4096)
def _has_glyph(char: str) -> bool:
    return get_font(findfont(FONT)).get_char_index(ord(char)) != 0


def drawable(text: object) -> str:
    """``text`` without what the font cannot draw: such characters are written as escapes."""
    safe = printable(text)
    return "".join(char if char == "\n" or _has_glyph(char) else char.encode("unicode_escape").decode() for char in safe)


def arm_label(arm: Arm, width: int = 26) -> str:
    """The arm's name over a few short lines; a bound says what it is."""
    name = wrapped(drawable(arm.name), width)
    return f"{name}\n({'nothing loaded' if arm.engine == 'floor' else 'no hit'})" if arm.bound else name


def squeezed(values: "np.ndarray[Any, Any]", heart: "np.ndarray[Any, Any]") -> bool:
    """Whether a linear axis over ``values`` would leave less than a fifth of it for ``heart``, and a logarithmic one more."""
    positive = values[values > 0]
    if not len(positive) or positive.max() < 3 * positive.min():
        return False
    return len(heart) > 0 and float(np.ptp(heart)) < 0.2 * float(np.ptp(values))


def logarithmic(values: "np.ndarray[Any, Any]", heart: "np.ndarray[Any, Any] | None" = None) -> bool:
    """Whether an axis over ``values`` should be logarithmic: they span more than LOG_FROM, or squeeze their ``heart``."""
    positive = values[values > 0]
    wide = len(positive) > 0 and bool(positive.max() > LOG_FROM * positive.min())
    return wide or (heart is not None and len(positive) > 0 and squeezed(values, heart))


def scale_axis(
    axis: Axis,
    values: "np.ndarray[Any, Any]",
    label: str = "",
    zero: bool = False,
    heart: "np.ndarray[Any, Any] | None" = None,
) -> None:
    """Logarithmic if the values span more than LOG_FROM, with plain numbers at round places, else linear; the label
    says which.

    ``zero``: a linear axis begins at 0. ``heart``: the values that matter most; logarithmic as well if
    a linear axis would squeeze them (``squeezed``).
    """
    positive = values[values > 0]
    axes: Axes = axis.axes
    which = axis.axis_name  # type: ignore[attr-defined]
    if logarithmic(values, heart):
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        decades = np.log10(positive.max() / positive.min())
        steps = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if decades < 1.3 else (1.0, 2.0, 5.0) if decades < 3 else (1.0,)
        axis.set_major_locator(LogLocator(subs=steps))
        axis.set_major_formatter(FuncFormatter(plain_number))
        axis.set_minor_formatter(NullFormatter())
        axis.set_minor_locator(NullLocator())
        label = label and f"{label}, {LOGARITHMIC}"
    else:
        axis.set_major_formatter(FuncFormatter(plain_number))
        if zero:
            (axes.set_xlim if which == "x" else axes.set_ylim)(0)
    if label:
        axis.set_label_text(label)


def plain_number(value: float, _position: object = None) -> str:
    """1234.0 as 1,234 and 0.5 as 0.5."""
    return f"{value:,.10g}" if abs(value) >= 1 else f"{value:.6g}"


def three_digits(value: float) -> str:
    """1234.5 as 1,234, 12.34 as 12.3 and 0.1234 as 0.123."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
