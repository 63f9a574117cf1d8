"""matplotlib's SVG prepared for the page: what belongs to an arm has its class, values are titles, and it is small.

The page takes from the file what it sets as HTML: the legend, the notes, and which part of the figure is the plot (METADATA).
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from harness.core.text import printable
from harness.reporting.figures.picture import Aside
from harness.reporting.figures.style import FONT

SVG, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
METADATA = f"{SVG}metadata"
FONTS = f"'{FONT}', system-ui, sans-serif"
"""The widths of the first are those of the layout; the others are for readers without it, and are narrower."""
_DIGITS = re.compile(r"(\.\d\d)\d+")
_USED = re.compile(r"#([\w-]+)")
_PLACED = ("d", "x", "y", "width", "height", "transform", "points")

ElementTree.register_namespace("", SVG[1:-1])
ElementTree.register_namespace("xlink", LINK[1:].partition("}")[0])


class Box(NamedTuple):
    """A part of a figure, in points from the upper left."""

    left: float
    top: float
    width: float
    height: float


def finished(text: str, aside: Aside, plot: Box) -> str:
    """Give matplotlib's SVG the marks and furniture of ``aside`` as classes and titles, and ``plot`` in its metadata."""
    root = ElementTree.fromstring(text)
    for element in list(root):
        if element.tag == METADATA or element.find(f"{SVG}style") is not None:
            root.remove(element)
    root.set("style", f"stroke-linejoin: round; stroke-linecap: butt; font-family: {FONTS}")  # as the style element said
    groups = {element.get("id", ""): element for element in root.iter(f"{SVG}g")}
    for gid, mark in aside.marks.items():
        if (group := groups.get(gid)) is not None:
            _name(group, mark.titles)
            if mark.arm is not None:
                group.set("class", f"arm-{mark.arm}")
    for name in aside.furniture:
        if name in groups:
            groups[name].set("class", "furniture")
    _shrink(root)
    beside = {"plot": [round(side, 1) for side in plot], "notes": aside.notes}
    beside["legend"] = [[entry.arm, entry.detail] for entry in aside.entries]
    root.insert(0, Element(METADATA))
    root[0].text = json.dumps(beside)
    return ElementTree.tostring(root, encoding="unicode")


def shapes(group: Element) -> Iterator[Element]:
    """What is drawn in a group, in its order; definitions are not."""
    for child in group:
        if child.tag in (f"{SVG}use", f"{SVG}path"):
            yield child
        elif child.tag == f"{SVG}g":
            yield from shapes(child)


def _name(group: Element, titles: Sequence[str]) -> None:
    drawn = list(shapes(group))
    marks = [shape for shape in drawn if shape.tag == f"{SVG}use"] or drawn  # a line's own path goes without
    named = marks if len(titles) == len(marks) else [group][: len(titles)]
    for shape, title in zip(named, titles, strict=False):
        shape.insert(0, Element(f"{SVG}title"))
        shape[0].text = printable(title)


def _shrink(root: Element) -> None:
    """Two digits after the point, one style for all markers of a group, short ids, and only those that are used."""
    ids = {element.get("id") for element in root.iter()}
    used = {name for element in root.iter() for value in element.attrib.values() for name in _USED.findall(value)}
    short = {name: f"i{number}" for number, name in enumerate(sorted(used & ids))}  # "#" begins colours as well
    for element in root.iter():
        for name in _PLACED:
            if name in element.attrib:
                element.set(name, _DIGITS.sub(r"\1", element.attrib[name]))
        if "id" in element.attrib and (new := short.get(element.attrib.pop("id"))):
            element.set("id", new)
        for name, value in element.items():
            if "#" in value:
                element.set(name, _USED.sub(lambda found: f"#{short.get(found[1], found[1])}", value))
        if element.tag == f"{SVG}text":
            element.set("style", element.get("style", "").replace(f"font-family: '{FONT}'; ", ""))
            if element.get("transform", "").startswith("rotate(-0 "):
                del element.attrib["transform"]
        styles = {child.get("style", "") for child in element if child.tag == f"{SVG}use"}
        if len(styles) == 1 and len(element) > 1 and all(child.tag in (f"{SVG}use", f"{SVG}defs") for child in element):
            element.set("style", f"{element.get('style', '')} {styles.pop()}".strip())
            for child in element.iter(f"{SVG}use"):
                child.attrib.pop("style", None)
