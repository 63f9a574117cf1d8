"""Interactive: a Gantt chart of one request, and the list of requests to choose from.

The page's script fills the chart from a choice: a mapping of ``label``, ``group`` (the arm), ``title``, ``unit``, ``end``
(of the time axis), ``rows`` (how many), ``ticks`` and ``names`` of rows, and lists of one entry a span: ``left``,
``right``, ``top``, ``bottom``, ``kind`` (an index into KIND_LOOKS), ``layer``, ``bytes``.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.models import FixedTicker

from harness.core.text import printable
from harness.reporting.figures.stories import Story, stories, with_loads
from harness.reporting.figures.style import INK, unit_of
from harness.reporting.figures.timeline import KINDS, Rows, layers_of, model_layers, rows_of
from harness.reporting.page.canvas import PAPER, Interactive, Key, canvas, frame, hover, table
from harness.results.evidence import Arm, Evidence

HATCHES = {"lookup": "left_diagonal_line", "copy": "dot", "wait": "right_diagonal_line"}
KIND_LOOKS = [
    {"name": name, "label": kind.label.replace("\n", " "), "colour": kind.colour, "hatch": HATCHES.get(name, " ")}
    for name, kind in KINDS.items()
]
LADDER: Mapping[float, str] = {
    0.5: "median", 1.0: "slowest", 0.0: "fastest", 0.9: "90%", 0.1: "10%", 0.75: "75%", 0.25: "25%", 0.99: "99%", 0.95: "95%",
}  # fmt: skip
"""Which requests of an arm are offered, the most telling first: those nearest to these quantiles of TTFT."""
MOST_SPANS = 16_000
"""Spans of all choices together; beyond them the less telling requests are left out."""


def choices(evidence: Evidence) -> tuple[list[dict[str, Any]], str]:
    """The requests to choose from, arm by arm from the fastest to the slowest, and a sentence on what is left out."""
    arms = [arm for arm in evidence.arms if not arm.bound and len(evidence.of(arm))]
    told = {arm: stories(evidence, arm, list(LADDER)) for arm in arms}
    found: dict[tuple[Arm, float], Story] = {}
    seen: set[tuple[int, str]] = set()
    spans = 0
    for place, share in enumerate(LADDER):
        for arm in (arm for arm in arms if told[arm]):
            story = told[arm][place]
            if (story.run, story.prompt) not in seen and (spans + len(story.spans) <= MOST_SPANS or share in (0.5, 1.0)):
                spans += len(story.spans)
                seen.add((story.run, story.prompt))
                found[arm, share] = story
    total = sum(len(with_loads(evidence, arm)) for arm in arms)
    ordered = sorted(found, key=lambda key: (key[0].order, key[1]))
    note = f"{len(found):,} of the {total:,} requests with spans can be chosen here; spans.jsonl has all of them."
    layers = model_layers(evidence)
    return [_choice(found[key], LADDER[key[1]], layers) for key in ordered], note if len(found) < total else ""


def draw(evidence: Evidence, offered: Sequence[dict[str, Any]], first: str) -> Interactive | None:
    """The chart, showing to begin with the request of the label ``first`` of the last arm that has one.

    None where there is nothing to choose from.
    """
    shown = next((one for one in reversed(offered) if one["label"].startswith(first)), None) or next(iter(offered), None)
    if shown is None:
        return None
    tallest = max(int(one["rows"]) for one in offered)
    plot = canvas("", "", height=int(np.clip(120 + 14 * tallest, 240, 620)))
    plot.xaxis.axis_label = f"time since the request's first span ({shown['unit']})"
    frame(plot, (0, shown["end"]), (shown["rows"], 0))
    plot.yaxis.ticker = FixedTicker(ticks=shown["ticks"])
    plot.yaxis.major_label_overrides = dict(zip(shown["ticks"], shown["names"], strict=True))
    plot.ygrid.visible = False
    source = table(columns(shown))
    source.name = "spans"
    place: dict[str, Any] = {name: name for name in ("left", "right", "top", "bottom")}
    hatch: dict[str, Any] = {"hatch_pattern": "hatch", "hatch_color": INK, "hatch_alpha": 0.55, "hatch_scale": 6.0}
    boxes = plot.quad(source=source, fill_color="colour", line_color=PAPER, line_width=0.5, **place, **hatch)
    told = [("span", "@what"), ("layer", "@layer"), ("from", "@left{0,0.00} @unit"), ("to", "@right{0,0.00} @unit")]
    hover(plot, [boxes], [*told, ("bytes", "@bytes{0,0}")])
    seen = {kind for one in offered for kind in one["kind"]}
    keys = [Key(look["label"], look["colour"], look["hatch"].strip()) for kind, look in enumerate(KIND_LOOKS) if kind in seen]
    return Interactive(plot, choices=[one | {"shown": one is shown} for one in offered], keys=keys)


def columns(choice: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The columns of the chart for a choice; the page's script does the same."""
    kinds = [KIND_LOOKS[kind] for kind in choice["kind"]]
    return {
        **{name: choice[name] for name in ("left", "right", "top", "bottom", "bytes")},
        "layer": ["all" if layer < 0 else str(layer) for layer in choice["layer"]],
        "colour": [kind["colour"] for kind in kinds],
        "hatch": [kind["hatch"] for kind in kinds],
        "what": [kind["label"] for kind in kinds],
        "unit": [choice["unit"]] * len(kinds),
    }


def _choice(story: Story, label: str, layers: int) -> dict[str, Any]:
    rows, spans = rows_of(story.spans, layers), story.spans
    end = float(spans["end_s"].max())
    unit = unit_of(np.array([end]))
    tops, bottoms = zip(*_places(spans, rows), strict=True)
    ticks = list(_ticks(rows))
    kinds = list(KINDS)
    ttft = f"{story.ttft_s * unit.scale:,.4g} {unit.name}"
    return {
        "group": printable(story.arm.name),
        "label": f"{label}: prompt {printable(story.prompt)}, run {story.run}, {ttft}",
        "title": f"{printable(story.arm.name)}: prompt {printable(story.prompt)} in run {story.run}, TTFT {ttft}",
        "unit": unit.name,
        "end": end * unit.scale * 1.01,
        "rows": rows.total,
        "ticks": [place for place, _ in ticks],
        "names": [name for _, name in ticks],
        "left": [float(f"{value:.6g}") for value in spans["start_s"].to_numpy(float) * unit.scale],
        "right": [float(f"{value:.6g}") for value in spans["end_s"].to_numpy(float) * unit.scale],
        "top": list(tops),
        "bottom": list(bottoms),
        "kind": [kinds.index(kind) for kind in spans["kind"]],
        "layer": [int(layer) for layer in spans["layer"].fillna(-1)],
        "bytes": [int(size) for size in spans["bytes"].fillna(0)],
    }


def _places(spans: Any, rows: Rows) -> Iterator[tuple[float, float]]:
    """Top and bottom of each span in rows, as the static timeline has them."""
    loaded = np.unique(spans.loc[(spans["kind"] == "fetch") & (spans["layer"] >= 0), "layer"].to_numpy(int))
    for name, layer, lane in zip(spans["kind"], spans["layer"], spans["lane"], strict=True):
        kind = KINDS[name]
        if layer < 0:
            top = rows.first(name) + lane
            yield round(top + 0.1, 2), round(top + 0.9, 2)
        else:
            top = rows.first("") + layer
            yield round(top + kind.top, 2), round(top + layers_of(name, layer, loaded, rows.layers) - 1 + kind.bottom, 2)


def _ticks(rows: Rows) -> Iterator[tuple[float, str]]:
    for kind in rows.kinds:
        height = rows.height(kind)
        yield rows.first(kind) + height / 2, f"{kind} x{height}" if height > 1 else kind
    for layer in range(0, rows.layers, max(1, -(-rows.layers // 8))):
        yield rows.first("") + layer + 0.5, f"layer {layer}"
