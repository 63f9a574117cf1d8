"""The page of a run: whole, self-contained, honest about bad runs, and nothing from the data is markup or code."""

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats.mstats import hdquantiles

from harness.core.findings import Kind
from harness.reporting import figures as plots
from harness.reporting.figures import ecdf
from harness.reporting.figures.save import save
from harness.reporting.figures.style import paper
from harness.reporting.page import story
from harness.reporting.page.document import json_block
from harness.reporting.page.sections import SECTIONS
from harness.reporting.summary import Summary, summarise
from harness.reporting.verdict import headline
from harness.results import load
from harness.results.evidence import gather
from harness.testing.runs import write_synthetic_run

FIVE = ("chunkwise:pool=0", "chunkwise:pool=8", "layerwise:depth=4", "recompute", "floor")
TWO = FIVE[1:3]
EVIL = (
    "chunkwise:note=</script><script>alert(1)</script> 'q' \"dq\"",
    "layerwise:漢字 \u202eabc <img src=x onerror=alert(2)> $$x^2$$ {{7*7}} <!--",
)
VOID_TAGS = {"meta", "img", "input", "br", "link", "wbr"}


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and the text in each."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1:] == [tag], f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.texts.append((tuple(self.open), data))

    def of(self, tag: str) -> list[dict[str, str]]:
        """The attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag: str | None = None) -> str:
        """All text that is shown, or that of one kind of element."""
        hidden = {"script", "style"}
        return " ".join(text for path, text in self.texts if (tag in path if tag else not hidden & set(path)))

    def rows(self) -> list[list[str]]:
        """The cells of the rows of all tables, one after the other; a cell's second line is left out."""
        found: list[list[str]] = []
        for path, text in self.texts:
            if "tbody" not in path or not text.strip():
                continue
            if path[-1] == "th" and (not found or len(found[-1]) > 1):
                found.append([text])
            elif path[-1] == "th":  # a name that may be broken comes in pieces
                found[-1][0] += text
            elif path[-1] == "td":
                found[-1].append(text)
        return found


def summary_of(folder: Path, arms: Sequence[str] = TWO, **more: Any) -> Summary:
    return summarise(gather(load(write_synthetic_run(folder / "run", arms, **more))))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic_run(tmp_path_factory.mktemp("five") / "run", FIVE, prompts=20)


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    """The page of a run of five arms, with one picture of each kind standing for all."""
    summary = summarise(gather(load(run)))
    with paper():
        _, drawn = save(ecdf.draw(summary.evidence), run / "drawn")
    pictures = [Path(shutil.copy(drawn, run / f"{name}.svg")) for name in plots.PICTURES]
    return story.page(summary, headline(summary), pictures)


def test_the_story_is_told_in_its_order(html: str) -> None:
    page = Page(html)
    assert page.open == []
    ids = [attributes["id"] for attributes in page.of("section")]
    assert ids == ["arms", *(section.picture for section in SECTIONS), "reproduce"]
    every = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(every) == len(set(every))
    linked = {attributes["href"] for attributes in page.of("a")}
    assert {f"#{name}" for name in ids} <= linked | {"#arms"}
    assert page.text("p").strip().startswith("layerwise:depth=4: ") and "% lower TTFT" in page.text("p")
    assert "95% interval" in html


def test_every_figure_is_there_for_readers_with_and_without_javascript(html: str) -> None:
    page = Page(html)
    stills = page.of("img")
    assert len(stills) == len(SECTIONS)
    for still in stills:
        assert still["alt"]
        kind, _, data = still["src"].partition(";base64,")
        assert kind in ("data:image/png", "data:image/svg+xml")
        assert len(base64.b64decode(data)) > 1000
    blocks = {attributes["data-figure"] for attributes in page.of("div") if "data-figure" in attributes}
    assert len(blocks) == len(stills)
    for name in blocks:
        text = re.search(rf'id="{name}">(.*?)</script>', html, re.DOTALL)
        assert text is not None
        assert json.loads(text[1])["doc"]["roots"][0]["name"] == "Figure"


def test_nothing_comes_from_outside(html: str) -> None:
    page = Page(html)
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            if name in attributes:
                assert attributes[name].startswith(("data:image/", "#")), f"{tag} {name}={attributes[name][:60]}"
    assert not {"link", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in page.elements}
    assert "url(" not in page.text("style")
    assert "@import" not in page.text("style")


def test_the_policy_allows_the_scripts_of_the_page_and_no_other(html: str) -> None:
    policy = next(attributes["content"] for attributes in Page(html).of("meta") if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none'")
    assert "unsafe-eval" not in policy
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts} == allowed
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]


def hodges_lehmann(values: Sequence[float]) -> float:
    return float(np.median([(a + b) / 2 for i, a in enumerate(values) for b in values[i:]]))


def test_the_numbers_of_the_table_can_be_recomputed_from_requests_csv(run: Path, html: str) -> None:
    rows = pd.read_csv(run / "requests.csv")
    runs = rows.groupby(["arm", "round"])["ttft_s"].agg(lambda times: float(hdquantiles(times, [0.5])[0])).unstack(0)
    shown = {line[0].removesuffix(" †"): line for line in Page(html).rows()[: len(FIVE)]}
    for arm in FIVE:
        line = shown[arm]
        assert line[1:3] == ["6", f"{(rows['arm'] == arm).sum()}"]
        assert float(line[3].rstrip("*")) == pytest.approx(1e3 * hodges_lehmann(list(runs[arm])), rel=0.006)
        mean = rows[rows["arm"] == arm].groupby("round")["ttft_s"].mean()
        assert float(line[7].rstrip("*")) == pytest.approx(1e3 * hodges_lehmann(list(mean)), rel=0.006)
        ratio = np.exp(hodges_lehmann(list(np.log(runs[arm] / runs[FIVE[0]]))))
        assert float(line[8].lstrip("~")) == pytest.approx(ratio, rel=0.02)


def test_odd_names_are_text_and_nothing_of_them_is_markup(tmp_path: Path) -> None:
    meta = {"command": "ttft </pre><script>alert(3)</script>", "warnings": ["<b>redis://u:hunter2@h:1/0</b>"]}
    summary = summary_of(tmp_path, EVIL, rounds=4, prompts=8, meta=meta)
    html = story.page(summary, headline(summary), [])
    page = Page(html)
    assert page.open == []
    assert {attributes.get("type", "own") for attributes in page.of("script")} == {"application/json", "own"}
    assert len(re.findall(r"<script>", html)) == 2
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert {tag for tag, _ in page.elements} & {"b", "img"} == set()
    assert "<script>alert(1)</script> 'q' \"dq\"" in page.text()
    assert "49" not in page.text("th")
    assert "\u202e" not in html
    assert "hunter2" not in html
    for text in re.findall(r'<script type="application/json" id="[^"]+">(.*?)</script>', html, re.DOTALL):
        json.loads(text)


@pytest.mark.parametrize("text", ["</script>", "<!--", "<script", "\u2028", "a\\u003c", '"', "é漢"])
def test_json_in_the_page_keeps_every_text_and_no_bracket(text: str) -> None:
    block = json_block({"name": [text]})
    assert "<" not in block
    assert json.loads(block) == {"name": [text]}


CASES: dict[str, tuple[tuple[str, ...], dict[str, Any], str, str]] = {
    "cut off": (FIVE[1:], {"rounds": 4, "prompts": 6, "stop_after": 60}, "open", "PARTIAL: the measurement was cut off"),
    "failed": (TWO, {"rounds": 4, "prompts": 4, "failed": {(1, 2): "broken pipe"}}, "open", "failed with: broken pipe"),
    "one arm": (TWO[:1], {"rounds": 3, "prompts": 6}, "open", "No two arms served the same prompt"),
    "one request": (TWO[:1], {"rounds": 1, "prompts": 1}, "open", "over 1 request in 1 run"),
    "no spans": (TWO, {"rounds": 3, "prompts": 4, "spans": False}, "good", "so there is no timeline"),
    "void": (TWO, {"rounds": 1, "prompts": 2, "void": {0: "other KV", 1: "other KV"}}, "bad", "do not count (other KV)"),
    "empty": (TWO, {"rounds": 0}, "open", "No verdict: no request"),
    "bounds only": (("floor", "recompute"), {"rounds": 3, "prompts": 4}, "open", "No verdict"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_and_small_runs_get_an_honest_page(tmp_path: Path, case: str) -> None:
    arms, more, state, sentence = CASES[case]
    summary = summary_of(tmp_path, arms, **more)
    page = Page(story.page(summary, headline(summary), []))
    assert page.open == []
    assert sentence in page.text()
    verdict = next(attributes["class"] for attributes in page.of("p") if "verdict" in attributes.get("class", ""))
    assert verdict == f"verdict {state}"
    assert [attributes["id"] for attributes in page.of("section")][-1] == "reproduce"


def test_warnings_stand_where_they_matter_and_each_but_once(tmp_path: Path) -> None:
    summary = summary_of(tmp_path, TWO, rounds=8, prompts=6, void={3: "other KV"}, meta={"data": {"notes": ["few prompts hit"]}})
    placed = story.place(summary)
    assert sorted(map(str, (one for found in placed.values() for one in found))) == sorted(map(str, summary.findings))
    assert [str(one) for one in placed["data"]] == ["few prompts hit"]
    assert [one.kind for one in placed["void"]] == [Kind.VOID_RUNS]
    text = Page(story.page(summary, headline(summary), [])).text()
    assert text.index("VOID RUNS EXCLUDED") < text.index("VOID: 1 of 16 runs excluded (run 3): other KV") < text.index("The arms")


def test_thousands_of_requests_stay_small_and_what_is_thinned_is_said(tmp_path: Path) -> None:
    summary = summary_of(tmp_path, TWO, rounds=6, prompts=600, spans=False)
    html = story.page(summary, headline(summary), [])
    assert len(html.encode()) < 3_000_000  # without the static pictures
    assert "of 7,200 requests are drawn; every number is computed from all of them" in Page(html).text()
