"""A figure to draw on, with its title and small print, and what SVG and page say about it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from harness.core.text import wrapped
from harness.reporting.figures.style import FAINT, arm_label, drawable
from harness.results.evidence import Arm, Evidence


@dataclass(frozen=True, slots=True)
class Mark:
    """What the SVG says of an artist: whose it is (the arm's order, None for nobody's), and a text to hover over for each
    of its shapes, or one for all of them."""

    arm: int | None
    titles: Sequence[str]


@dataclass(frozen=True, slots=True)
class Entry:
    """An arm in the legend: its order, and a short text below its name."""

    arm: int
    detail: str


@dataclass(slots=True)
class Aside:
    """What belongs to a figure and is no drawing: marks by gid, the arms of the legend, sentences for its caption, and the
    title, legend and small print, which a page sets as HTML in place of drawing them."""

    marks: dict[str, Mark] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    furniture: dict[str, Artist] = field(default_factory=dict)


class Picture(Figure):
    """A matplotlib figure with its Aside."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height))
        self.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)
        self.aside = Aside()

    def mark(self, artist: Artist, arm: Arm | None, titles: Sequence[str] = ()) -> None:
        """Say whose an artist is, and what shows while the pointer rests on it."""
        gid = f"mark{len(self.aside.marks)}"
        artist.set_gid(gid)
        self.aside.marks[gid] = Mark(arm.order if arm else None, titles)

    def entry(self, artist: Artist, arm: Arm, detail: str = "") -> None:
        """Name an artist in the legend of arms."""
        artist.set_label(f"{arm_label(arm)}\n{detail}".rstrip())
        self.aside.entries.append(Entry(arm.order, detail))

    def arms_legend(self) -> None:
        """The legend of the arms, beside the axes."""
        legend = self.legend(loc="outside right upper", fontsize=8, handlelength=3.6, labelspacing=0.9)
        self.aside.furniture["legend"] = legend


def figure(evidence: Evidence, title: str, width: float, height: float, *notes: str) -> Picture:
    """An empty figure with the title and, below it, its notes and what was measured where; sizes in inches."""
    picture = titled(title, width, height, (" ".join(note for note in notes if note), _what(evidence)))
    picture.aside.notes = [note for note in notes if note]
    return picture


def titled(title: str, width: float, height: float, below: Sequence[str]) -> Picture:
    """An empty figure with the title and, below it in small print, the lines that are not empty; sizes in inches."""
    picture = Picture(width, height)
    columns = int(width * 15)
    below = [wrapped(drawable(line), columns, 3) for line in below if line]
    heading = picture.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    small = picture.supxlabel("\n".join(below), x=0.01, ha="left", fontsize=7.5, color=FAINT)
    picture.aside.furniture |= {"title": heading, "below": small}
    return picture


def _what(evidence: Evidence) -> str:
    state = "SOME RUNS VOID. " if evidence.lost("void") else ""
    state += "PARTIAL RUN. " if evidence.partial else ""
    return f"{state}Store {evidence.setting('store')}, workload {evidence.setting('workload')}"
