"""Pictures: what they show is what was measured, and everything in them can be read."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from harness import results
from harness.reporting import figures as plots
from harness.reporting.figures import drift, ecdf, pairs, parts, shift, spread
from harness.reporting.figures.style import drawable, looks, paper, plain_number, scale_axis, squeezed, three_digits, unit_of
from harness.results.evidence import Arm, Evidence, gather
from harness.testing.runs import write_synthetic_run

BOTH = ("chunkwise:pool=8", "layerwise:depth=4,layers_per_fetch=1")
FIVE = ("chunkwise:pool=0", "chunkwise:pool=8", "layerwise:depth=4", "recompute", "floor")
ODD = (
    "chunkwise:note=$x^2$ <script>alert(1)</script>",
    "layerwise:漢字 \U0001f600 \x1b[31mred \u202eabc",
    "layerwise:" + "very_long_option_name=12345," * 9,
)
WIDE = ("chunkwise:pool=0", "chunkwise:pool=8", "layerwise:depth=4", "layerwise:depth=1", "chunkwise:pool=default", "floor")


def evidence_of(folder: Path, arms: tuple[str, ...], **more: Any) -> Evidence:
    return gather(results.load(write_synthetic_run(folder / "run", arms, **more)))


@pytest.fixture
def style() -> Iterator[None]:
    with paper():
        yield


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return evidence_of(tmp_path_factory.mktemp("five"), FIVE)


def texts(picture: Figure) -> list[Text]:
    """Everything written in the picture. Ticks beyond an axis' limits exist as objects, but are not drawn."""
    FigureCanvasAgg(picture).draw()  # type: ignore[no-untyped-call]
    hidden: set[Text] = set()
    for axes in picture.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            slack = 1e-9 * (high - low)
            for tick in axis.get_major_ticks():
                if not axes.get_visible() or not low - slack <= tick.get_loc() <= high + slack:
                    hidden |= {tick.label1, tick.label2}
        if not axes.get_visible():
            hidden |= set(axes.findobj(Text))
    found = [text for text in picture.findobj(Text) if isinstance(text, Text) and text not in hidden]
    return [text for text in found if text.get_text().strip() and text.get_visible()]


CASES: Mapping[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "two": (BOTH, {"rounds": 3, "prompts": 5}),
    "five": (FIVE, {}),
    "odd": (ODD, {"rounds": 2, "prompts": 1}),
    "wide": (WIDE, {"rounds": 2, "mean_s": {"chunkwise:pool=0": 9.0}}),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    arms, more = CASES[request.param]
    return evidence_of(tmp_path_factory.mktemp("case"), arms, **more)


ABSENT = {"two": {"prediction"}, "odd": {"shift", "lengths", "prediction"}, "wide": {"shift"}}
"""Pictures that a case has too few rounds (shift) or prompts (lengths) for, or no floor arm (prediction)."""


@pytest.mark.parametrize("name", plots.PICTURES)
def test_no_text_overlaps_another_or_leaves_the_picture(
    case: Evidence, style: None, name: str, request: pytest.FixtureRequest
) -> None:
    picture = plots.PICTURES[name](case)
    if name in ABSENT.get(request.node.callspec.params["case"], ()):
        assert picture is None
        return
    assert picture is not None
    shown = texts(picture)
    assert len(shown) > 5
    frame = picture.bbox.padded(1)
    boxes = [(text.get_text(), text.get_window_extent()) for text in shown]
    for words, box in boxes:
        assert frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1), f"{words!r} is cut off"
    for (words, box), (others, other) in combinations(boxes, 2):
        overlap = min(box.x1, other.x1) - max(box.x0, other.x0), min(box.y1, other.y1) - max(box.y0, other.y0)
        assert min(overlap) < 1.5, f"{words!r} runs into {others!r}"


@pytest.mark.parametrize("name", plots.PICTURES)
def test_each_picture_names_its_unit_and_the_store_without_secrets(tmp_path: Path, style: None, name: str) -> None:
    config = {"store": "redis://user:hunter2@host:6379/0", "workload": "mooncake:limit=3"}
    picture = plots.PICTURES[name](evidence_of(tmp_path, FIVE, rounds=3, meta={"config": config}))
    if name == "prediction":  # nobody knows that store's latency
        assert picture is None
        return
    assert picture is not None
    words = "\n".join(text.get_text() for text in texts(picture)).replace("\n", " ")
    assert "(ms)" in words or name in ("shift", "breakeven")  # ratios
    assert "redis://user:***@host:6379/0" in words
    assert "mooncake:limit=3" in words
    assert "hunter2" not in words


def test_draw_all_writes_a_png_and_an_svg_of_each(five: Evidence, tmp_path: Path) -> None:
    written = plots.draw_all(five, tmp_path / "pictures")
    assert {file.name for file in written} == {f"{name}.{kind}" for name in plots.PICTURES for kind in ("png", "svg")}
    for file in written:
        if file.suffix == ".png":
            assert file.read_bytes().startswith(b"\x89PNG")
        else:
            assert ElementTree.parse(file).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_drawing_again_gives_the_same_files_and_leaves_the_settings_alone(
    five: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "PICTURES", {"ecdf": ecdf.draw, "spread": spread.draw})
    before = dict(mpl.rcParams)
    first = [file.read_bytes() for file in plots.draw_all(five, tmp_path / "a")]
    second = [file.read_bytes() for file in plots.draw_all(five, tmp_path / "b")]
    assert first == second
    assert dict(mpl.rcParams) == before


def test_odd_names_draw_and_nothing_of_them_is_markup(tmp_path: Path) -> None:
    written = plots.draw_all(evidence_of(tmp_path, ODD, rounds=2), tmp_path / "pictures")
    assert {file.stem for file in written} == set(plots.PICTURES) - {"shift", "prediction"}
    for file in written:
        if file.suffix == ".svg":
            tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(file).iter()}
            assert "script" not in tags
            assert "<script>alert" not in file.read_text(encoding="utf-8")


def test_without_spans_there_is_no_timeline_and_an_old_one_goes(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "timeline.png").write_bytes(b"old")
    written = plots.draw_all(evidence_of(tmp_path, BOTH, spans=False), tmp_path / "pictures")
    assert {file.stem for file in written} == set(plots.PICTURES) - {"timeline", "slowest", "prediction"}
    assert not (tmp_path / "pictures" / "timeline.png").exists()


def test_nothing_is_drawn_of_a_void_run(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path, BOTH, rounds=1, void={0: "wrong KV", 1: "wrong KV"})
    assert plots.draw_all(evidence, tmp_path / "pictures") == []


def test_the_ecdf_passes_through_every_request(five: Evidence, style: None) -> None:
    picture = ecdf.draw(five)
    assert picture is not None
    curves = {str(line.get_label()).partition("\n")[0]: line for line in picture.axes[0].get_lines()}
    for arm in five.arms:
        times = np.sort(five.of(arm)["ttft_s"].to_numpy(float)) * 1e3
        x, y = np.asarray(curves[arm.name].get_xdata()), np.asarray(curves[arm.name].get_ydata())
        assert np.allclose(x[1:], times)
        assert np.allclose(y, np.arange(len(times) + 1) / len(times))
        assert "n = 72" in str(curves[arm.name].get_label())


def test_the_spread_shows_every_request_as_a_point(five: Evidence, style: None) -> None:
    picture = spread.draw(five)
    assert picture is not None
    clouds = [line for line in picture.axes[0].get_lines() if line.get_linestyle() == "None"]
    drawn = np.concatenate([np.asarray(cloud.get_xdata()) for cloud in clouds])
    assert np.allclose(np.sort(drawn), np.sort(five.rows["ttft_s"].to_numpy(float) * 1e3))


def test_pairs_hold_each_prompt_against_itself_in_the_same_round(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path, BOTH, rounds=3, prompts=4)
    first, other = evidence.arms
    table = pairs.ratios(evidence, other, first)
    rows = evidence.rows
    for prompt in sorted(rows["prompt"].unique()):
        logs = []
        for pair in range(3):
            mine = rows[(rows["prompt"] == prompt) & (rows["round"] == pair)].set_index("arm")["ttft_s"]
            logs.append(np.log(mine[other.name] / mine[first.name]))
        assert table.loc[prompt, "ratio"] == pytest.approx(np.exp(np.mean(logs)))
        assert table.loc[prompt, "low"] == pytest.approx(np.exp(min(logs)))
        assert table.loc[prompt, "high"] == pytest.approx(np.exp(max(logs)))


def test_one_arm_alone_has_no_pairs(tmp_path: Path) -> None:
    assert pairs.draw(evidence_of(tmp_path, ("chunkwise:pool=8",), rounds=1, prompts=1)) is None


def test_the_parts_add_up_to_the_mean_ttft(five: Evidence) -> None:
    for arm in five.arms:
        rows = five.of(arm)
        shares = parts.split(rows)
        assert sum(shares.values()) == pytest.approx(rows["ttft_s"].mean())
        assert shares["compute"] == pytest.approx(rows["compute_s"].mean())
        assert all(value >= 0 for value in shares.values())


def test_the_parts_of_an_arm_that_loads_nothing_have_no_stall(five: Evidence) -> None:
    rows = five.rows.assign(stall_s=np.nan)
    assert parts.split(rows)["stall: the forward waits for loads"] == 0


def test_drift_marks_the_runs_that_are_left_out(tmp_path: Path, style: None) -> None:
    picture = drift.draw(evidence_of(tmp_path, BOTH, void={2: "wrong KV"}))
    assert picture is not None
    crosses = [line for line in picture.axes[0].get_lines() if line.get_label() == "excluded"]
    assert [list(np.asarray(line.get_xdata())) for line in crosses] == [[2]]


def test_arms_can_be_told_apart_without_colour() -> None:
    arms = [Arm(f"chunkwise:pool={n}", "chunkwise", {}, n) for n in range(10)]
    arms += [Arm("floor", "floor", {}, 10), Arm("recompute", "recompute", {}, 11)]
    found = looks(arms)
    assert len({look.marker for look in found.values()}) == len(arms)


@pytest.mark.parametrize(("largest", "name", "scale"), [(4.0, "s", 1.0), (2.9, "ms", 1e3), (0.0005, "µs", 1e6), (0.0, "ms", 1e3)])
def test_the_unit_fits_the_largest_value(largest: float, name: str, scale: float) -> None:
    unit = unit_of(np.array([0.0, largest]))
    assert (unit.name, unit.scale) == (name, scale)


@pytest.mark.parametrize(("largest", "scale"), [(19.0, "linear"), (21.0, "log")])
def test_an_axis_is_logarithmic_from_a_ratio_of_20_on(style: None, largest: float, scale: str) -> None:
    axes = Figure().subplots()
    axes.plot([1.0, largest], [1.0, 1.0])
    scale_axis(axes.xaxis, np.array([1.0, largest]))
    assert axes.get_xscale() == scale


def test_an_axis_is_logarithmic_where_a_bound_would_squeeze_the_candidates() -> None:
    candidates = np.array([1.0, 1.2])
    assert squeezed(np.append(candidates, 9.0), candidates)
    assert not squeezed(np.append(candidates, 1.5), candidates)
    assert not squeezed(np.array([1.0, 9.0]), np.array([1.0, 9.0]))


def test_a_bound_far_longer_than_the_candidates_is_cut_off_and_says_so(tmp_path: Path, style: None) -> None:
    evidence = evidence_of(
        tmp_path, ("chunkwise:pool=8", "recompute"), rounds=1, mean_s={"chunkwise:pool=8": 0.3, "recompute": 3}
    )
    picture = parts.draw(evidence)
    assert picture is not None
    (label,) = (text.get_text() for text in texts(picture) if "cut off" in text.get_text())
    mean = evidence.of(evidence.arms[1])["ttft_s"].mean()
    assert label.split() == [f"{1e3 * mean:,.0f}", "ms", "(cut", "off)"]
    assert picture.axes[0].get_xlim()[1] < 1e3 * mean
    assert max(bar.get_x() + bar.get_width() for bar in picture.axes[0].patches) < picture.axes[0].get_xlim()[1]  # type: ignore[attr-defined]


def test_noise_does_not_fill_the_axes_of_ratios(tmp_path: Path, style: None) -> None:
    same = dict.fromkeys(BOTH, 0.3)
    evidence = evidence_of(tmp_path, BOTH, rounds=4, prompts=12, mean_s=same)
    for draw, low, high in ((pairs.draw, 0.5, 2.0), (shift.draw, 0.8, 1.25)):
        picture = draw(evidence)
        assert picture is not None
        bottom, top = picture.axes[0].get_ylim()
        assert bottom <= low
        assert top >= high
    left, right = pairs.draw(evidence).axes[0].get_xlim()  # type: ignore[union-attr]
    assert right > 1.5 * left


def test_a_logarithmic_axis_says_so(tmp_path: Path, style: None) -> None:
    slow = evidence_of(tmp_path, BOTH, rounds=2, mean_s={BOTH[0]: 0.01, BOTH[1]: 9})
    near = evidence_of(tmp_path / "near", BOTH, rounds=2)
    for draw, axis in ((ecdf.draw, "xaxis"), (spread.draw, "xaxis"), (drift.draw, "yaxis")):
        for evidence, logarithmic in ((slow, True), (near, False)):
            assert (picture := draw(evidence)) is not None
            assert getattr(picture.axes[0], axis).get_label_text().endswith("logarithmic axis") == logarithmic


def test_numbers_on_axes_are_plain() -> None:
    assert [three_digits(value) for value in (1234.5, 12.34, 0.1234)] == ["1,234", "12.3", "0.123"]
    assert [plain_number(value) for value in (1234.0, 0.5, 10_000.0, 0.0)] == ["1,234", "0.5", "10,000", "0"]


@given(st.text())
def test_what_is_drawn_needs_no_glyph_that_the_font_lacks(text: str) -> None:
    shown = drawable(text)
    font = mpl.font_manager.get_font(mpl.font_manager.findfont("DejaVu Sans"))
    assert all(char == "\n" or font.get_char_index(ord(char)) for char in shown)


def test_ordinary_names_are_drawn_as_they_are() -> None:
    assert drawable("chunkwise:pool=8, é µ $x$") == "chunkwise:pool=8, é µ $x$"
