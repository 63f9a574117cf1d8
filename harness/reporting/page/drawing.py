"""A figure's SVG file as a part of the page: in the page's colours, with the legend and the notes as HTML."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from markupsafe import Markup

from harness.core.text import printable
from harness.reporting.figures.style import BLACK, BLUE, BOUND_COLOURS, FAINT, GRID, INK, PAPER, looks
from harness.reporting.figures.svg import LINK, METADATA, SVG
from harness.reporting.page.swatch import swatch
from harness.results.evidence import Arm

FLOOR, RECOMPUTE = BOUND_COLOURS
COLOURS: Mapping[str, str] = {
    INK: "ink",
    FAINT: "faint",
    GRID: "grid",
    PAPER: "paper",
    BLACK: "black",
    BLUE.lower(): "blue",
    FLOOR: "floor",
    RECOMPUTE: "recompute",
}
"""Which colours of the figures are variables of page.css, since on a dark screen they are others."""
SIZE = 5 / 3
"""CSS pixels of a point on a wide screen."""
_COLOUR = re.compile("|".join(COLOURS))
_REFERENCE = re.compile(r"(url\(#|^#)(?=i\d+)")


@dataclass(frozen=True, slots=True)
class Legend:
    """An arm in a figure's legend."""

    number: int
    name: str
    detail: str
    swatch: Markup


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure for the template."""

    svg: Markup
    notes: Sequence[str]
    legend: Sequence[Legend]


def drawing(key: str, title: str, pictures: Sequence[Path], arms: Sequence[Arm]) -> Drawing | None:
    """The figure of that name among ``pictures``; None if it was not drawn. ``arms`` are those of its evidence."""
    file = next((file for file in pictures if file.name == f"{key}.svg"), None)
    if file is None:
        return None
    root = ElementTree.fromstring(file.read_text(encoding="utf-8"))
    beside = json.loads(root.findtext(METADATA, "{}"))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == METADATA or child.get("class") == "furniture":
                parent.remove(child)
    left, top, width, height = beside["plot"]
    root.attrib |= {
        "viewBox": f"{left} {top} {width} {height}",
        "width": f"{width * SIZE:.0f}",
        "height": f"{height * SIZE:.0f}",
        "role": "img",
        "aria-label": printable(title),
    }
    for element in root.iter():
        _settle(element, key)
    look, by_number = looks(arms), {arm.order: arm for arm in arms}
    legend = [
        Legend(number, (arm := by_number[number]).name, detail, swatch(look[arm.name], colour(look[arm.name].colour.lower())))
        for number, detail in beside["legend"]
    ]
    return Drawing(Markup(ElementTree.tostring(root, encoding="unicode")), beside["notes"], legend)


def colour(text: str) -> str:
    """A style of a figure, with the page's variables for the colours that a dark screen changes."""
    return _COLOUR.sub(lambda found: f"var(--{COLOURS[found[0]]})", text)


def _settle(element: Element, key: str) -> None:
    """Make an element one of this page: its ids are of this figure alone, its colours the page's."""
    if "id" in element.attrib:
        element.set("id", f"{key}-{element.attrib['id']}")
    for name, value in list(element.items()):
        if "#" not in value:
            continue
        value = _REFERENCE.sub(rf"\g<1>{key}-", value)
        if name == LINK:
            del element.attrib[name]
            element.set("href", value)
        elif name == "style":
            element.set(name, colour(value))
        elif name in ("fill", "stroke"):
            del element.attrib[name]
            element.set("style", f"{name}: {colour(value)}")
        else:
            element.set(name, value)
    if element.tag == f"{SVG}svg":
        width = element.get("viewBox", "").split()[2]
        element.set("style", f"{element.get('style', '').partition('; font-family')[0]}; --points: {width}")
