"""What a sweep leaves: verdict, table, crossings and pictures, from runs that are made up and whose answer is known."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_sweep import ARMS, made_up
from matplotlib.figure import Figure

from harness.experiment.sweep.state import State
from harness.reporting.sweep.crossing import crossing
from harness.reporting.sweep.crossings import Found, crossings, sentences
from harness.reporting.sweep.outputs import CROSSING_COLUMNS, Outputs, write_outputs
from harness.reporting.sweep.pictures import draw_sweep
from harness.reporting.sweep.table import COLUMNS, arms_in, long_table, measured_points
from harness.reporting.sweep.verdict import headline, metric_of


def crossing_at_3(values: Mapping[str, str], arm: str) -> float:
    """Chunkwise takes 0.5 s, layerwise 0.2 s and 0.1 s for each request under way: they are even at 3."""
    return 0.2 + 0.1 * float(values.get("concurrency", 1)) if arm.startswith("layerwise") else 0.5


def crossing_at_20(values: Mapping[str, str], arm: str) -> float:
    """Round trips by the latency in ms, as r05 had them: 8 of chunkwise, 25 of layerwise, which begins 340 ms ahead."""
    latency_s = float(values["store.latency_ms"]) / 1000
    return 0.06 + 25 * latency_s if arm.startswith("layerwise") else 0.40 + 8 * latency_s


def even(values: Mapping[str, str], arm: str) -> float:
    return 0.5


def outputs(state: State) -> tuple[Outputs, str]:
    found = write_outputs(state)
    return found, (state.folder / "sweep.md").read_text(encoding="utf-8")


def test_a_known_crossing_is_found_with_an_interval_around_it(tmp_path: Path) -> None:
    state = made_up(tmp_path, ["concurrency=1,2,4,8"], crossing_at_3)
    found, text = outputs(state)
    with (tmp_path / "crossings.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert list(row) == list(CROSSING_COLUMNS)
    assert (row["kind"], row["base"], row["candidate"]) == ("one", *ARMS)
    assert float(row["place"]) == pytest.approx(3, rel=0.05)
    assert (float(row["low"]), float(row["high"])) == (2, 4)
    assert "faster at 2, slower at 2 of 4 points" in found.lines[0]
    assert "the lead changes along concurrency between 2 and 4, near " in found.lines[0]
    assert f"{ARMS[1]} is faster at 1 and slower at 8" in found.lines[0]
    assert "## Where the lead changes" in text and "pictures/lines.png" in text


def test_between_values_far_apart_it_is_where_the_times_cross(tmp_path: Path) -> None:
    """The ratio bends between 8 and 32 ms: as a straight line its logarithm would cross at 25."""
    state = made_up(tmp_path, ["store.latency_ms=0,8,32"], crossing_at_20)
    found, _ = outputs(state)
    assert "the lead changes along store.latency_ms between 8 and 32, near " in found.lines[0]
    assert "A thick stretch at 1" in (tmp_path / "pictures" / "lines.svg").read_text(encoding="utf-8")
    place = pd.read_csv(tmp_path / "crossings.csv")["place"][0]
    assert place == pytest.approx(20, rel=0.03)
    line = next(line for line in figures_of(state)["lines"].axes[0].lines if line.get_markevery())
    drawn = np.interp(place, np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float))
    assert drawn == pytest.approx(1.0, abs=0.02)  # the picture shows that very place


def test_a_picture_without_a_crossing_explains_none(tmp_path: Path) -> None:
    outputs(made_up(tmp_path, ["concurrency=1,2"], even))
    assert "thick stretch" not in (tmp_path / "pictures" / "lines.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("vary", [["chunkwise.pool=2,8"], ["store.stream_mb_s=200,800"]])
def test_what_divides_the_time_is_read_off_by_ratios_over_its_logarithm(tmp_path: Path, vary: list[str]) -> None:
    def even_at_half_way(values: Mapping[str, str], arm: str) -> float:
        by = (
            float(arm.partition("pool=")[2] or 4)
            if "store.stream_mb_s" not in values
            else float(values["store.stream_mb_s"]) / 100
        )
        return 0.5 if arm.startswith("layerwise") else 0.5 * 4 / by

    outputs(made_up(tmp_path, vary, even_at_half_way))
    row = pd.read_csv(tmp_path / "crossings.csv").iloc[0]
    assert row["place"] == pytest.approx(4 if "pool" in row["axis"] else 400, rel=0.05)


def test_a_grid_of_two_axes_tells_the_lead_line_by_line(tmp_path: Path) -> None:
    state = made_up(tmp_path, ["concurrency=1,2,4", "workload.prefix=512,1024"], crossing_at_3)
    points, _ = measured_points(state)
    found = crossings(state.grid, points, "p50")
    along = [one for one in found if one.axis == "concurrency"]
    assert [one.elsewhere for one in along] == [{"workload.prefix": "512"}, {"workload.prefix": "1024"}]
    assert all(one.crossing.places[0] == pytest.approx(3, rel=0.1) for one in along)
    across = [one for one in found if one.axis == "workload.prefix"]
    assert all(one.crossing.kind == "none" and not one.crossing.open for one in across)
    assert any(
        "at concurrency=1, 2: no crossing from workload.prefix 512 to 1,024: it is faster" in line for line in sentences(found)
    )
    assert any("outside the grid" in line for line in sentences(found))


def test_where_two_arms_are_even_nothing_is_claimed(tmp_path: Path) -> None:
    found, _ = outputs(made_up(tmp_path, ["concurrency=1,2,4"], even))
    assert found.lines[0].startswith("no difference shown between layerwise:depth=4 and chunkwise:pool=0 at any of 3 points")
    assert "seems to change" in found.lines[1] or "holds 1" in found.lines[1]


@pytest.mark.parametrize(
    ("half", "said"),
    [
        ((0.1, 0.1), "the lead changes along concurrency between 1 and 3, near 2 if times run straight there; "
                     "b is faster at 1 and slower at 3"),
        ((0.6, 0.1), "the lead seems to change along concurrency below 3, near 2 if times run straight there; "
                     "b seems faster below and is slower above, no difference shown at 1"),
        ((0.1, 0.6), "the lead seems to change along concurrency above 1, near 2 if times run straight there; "
                     "b is faster below and seems slower above, no difference shown at 3"),
        ((0.6, 0.6), "the lead seems to change along concurrency, near 2 if times run straight there; "
                     "b seems faster below and seems slower above, no difference shown at 1, 3"),
    ],
)  # fmt: skip
def test_what_is_not_shown_only_seems(half: tuple[float, float], said: str) -> None:
    leads = [-0.5, 0.5]
    found = crossing([1, 3], leads, *([lead + side * one for lead, one in zip(leads, half, strict=True)] for side in (-1, 1)))
    assert Found("concurrency", {}, "p50", "a", "b", (1.0, 3.0), "times", found).sentence == f"b against a: {said}"


def test_several_changes_that_are_shown_are_all_told() -> None:
    leads = [-0.5, 0.5, -0.5]
    found = crossing([1, 3, 5], leads, [lead - 0.1 for lead in leads], [lead + 0.1 for lead in leads])
    assert Found("concurrency", {}, "p50", "a", "b", (1.0, 3.0, 5.0), "times", found).finding == (
        "the lead changes 2 times: along concurrency between 1 and 3, near 2 if times run straight there, "
        "between 3 and 5, near 4 if times run straight there; b is faster at 1 and faster at 5"
    )


def test_labelled_twins_of_one_value_are_no_two_values(tmp_path: Path) -> None:
    arms = ["chunkwise:pool=2", "chunkwise:pool=2@again", "layerwise:depth=4"]
    state = made_up(tmp_path, ["chunkwise.pool=2,8"], lambda values, arm: 0.5 if arm == ARMS[1] else 0.2, arms=arms)
    found, _ = outputs(state)
    assert "no crossing from chunkwise.pool 2 to 8" in "".join(found.lines)


def test_along_what_neither_adds_nor_divides_no_place_is_named(tmp_path: Path) -> None:
    def by_limit(values: Mapping[str, str], arm: str) -> float:
        return 0.5 if arm.startswith("layerwise") else 0.3 + 0.1 * float(values["vllm.max_num_seqs"])

    found, _ = outputs(made_up(tmp_path, ["vllm.max_num_seqs=1,4"], by_limit))
    assert "the lead changes along vllm.max_num_seqs between 1 and 4; layerwise:depth=4 is slower at 1" in found.lines[0]
    assert pd.read_csv(tmp_path / "crossings.csv")["place"].isna().all()


def test_points_that_failed_are_in_the_table_the_report_and_the_map(tmp_path: Path) -> None:
    state = made_up(tmp_path, ["concurrency=1,2", "workload.prefix=512,1024"], crossing_at_3, skip=[3])
    found, text = outputs(state)
    assert found.lines[0].startswith("1 OF 4 POINTS FAILED: ")
    assert "| 2 | 512 | failed: there is no such thing |" in text
    table = pd.read_csv(tmp_path / "sweep.csv")
    assert list(table.columns) == [*list(COLUMNS)[:4], "concurrency", "workload.prefix", *list(COLUMNS)[4:]]
    assert table.loc[table["point"] == 3, "reason"].tolist() == ["there is no such thing"]
    assert set(table.loc[table["point"] == 3, ["concurrency", "workload.prefix"]].iloc[0]) == {2, 512}
    assert "failed" in texts_of(state, "map")


def figures_of(state: State, monkeypatch: pytest.MonkeyPatch | None = None) -> dict[str, Figure]:
    points, unreadable = measured_points(state)
    table = long_table(state, points, unreadable)
    drawn: dict[str, Figure] = {}

    def keep(picture: Figure | None, stem: Path) -> list[Path]:
        if picture is not None:
            picture.draw_without_rendering()
            drawn[stem.name] = picture
        return []

    patch = pytest.MonkeyPatch()
    patch.setattr("harness.reporting.sweep.pictures.save", keep)
    try:
        metric = metric_of(table)
        draw_sweep(state.grid, table, arms_in(points), metric, crossings(state.grid, points, metric), state.folder / "pictures")
    finally:
        patch.undo()
    return drawn


def texts_of(state: State, name: str) -> list[str]:
    return [text.get_text() for axes in figures_of(state)[name].axes for text in axes.texts]


def test_one_axis_gives_lines_with_the_numbers_of_the_table(tmp_path: Path) -> None:
    state = made_up(tmp_path, ["concurrency=1,2,4,8"], crossing_at_3)
    points, _ = measured_points(state)
    table = long_table(state, points, {})
    figures = figures_of(state)
    assert list(figures) == ["lines"]
    ratios = figures["lines"].axes[0]
    rows = table[(table["arm"] == ARMS[1]) & (table["metric"] == "p50")]
    drawn = [np.asarray(line.get_ydata())[np.asarray(line.get_markevery())] for line in ratios.lines if line.get_markevery()]
    assert len(drawn) == 1
    assert drawn[0].tolist() == pytest.approx(rows["ratio"].tolist())
    assert [label.get_text() for label in figures["lines"].axes[1].get_xticklabels()] == ["1", "2", "4", "8"]


def test_two_axes_give_a_map_with_every_ratio_and_the_base_named(tmp_path: Path) -> None:
    state = made_up(tmp_path, ["concurrency=1,2", "workload.prefix=512,1024"], crossing_at_3)
    texts = texts_of(state, "map")
    assert len([text for text in texts if " to " in text]) == 4
    pools = made_up(tmp_path / "pools", ["chunkwise.pool=0,8", "workload.prefix=512,1024"], even)
    figures = figures_of(pools)
    assert list(figures) == ["lines", "map-chunkwise-pool"]
    assert texts_of(pools, "map-chunkwise-pool").count("1 (base)") == 2


def test_cells_that_are_not_told_apart_from_1_are_hatched(tmp_path: Path) -> None:
    state = made_up(tmp_path, ["concurrency=1,2", "workload.prefix=512,1024"], even, rounds=3, noise=0.2)
    picture = figures_of(state)["map"].axes[0]
    open_ = [text for text in picture.texts if text.get_text().startswith("~")]
    assert len([patch for patch in picture.patches if patch.get_hatch()]) == len(open_) > 0


@pytest.mark.parametrize(
    ("vary", "names"),
    [
        (["chunkwise.pool=0,2,8"], ["lines-chunkwise-pool"]),
        (["layerwise.depth=2,4", "layerwise.readers=2,4"], ["map-layerwise-readers"]),
        (["concurrency=1,2", "workload.prefix=512,1024", "layout=chunk,layer"], ["map-1", "map-2"]),
        (["layout=chunk,layer"], ["lines"]),
    ],
)
def test_each_kind_of_grid_has_its_pictures(tmp_path: Path, vary: list[str], names: list[str]) -> None:
    assert list(figures_of(made_up(tmp_path, vary, even, rounds=3))) == names


def test_pictures_of_an_earlier_time_do_not_stay(tmp_path: Path) -> None:
    state = made_up(tmp_path, ["concurrency=1,2"], even, rounds=3)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "map.png").write_text("old")
    write_outputs(state)
    assert sorted(file.name for file in (tmp_path / "pictures").iterdir()) == ["lines.png", "lines.svg"]


def test_a_sweep_of_which_nothing_is_measured_says_so(tmp_path: Path) -> None:
    state = made_up(tmp_path, ["concurrency=1,2"], even, skip=[1, 2])
    found, text = outputs(state)
    assert found.lines == ["2 OF 2 POINTS FAILED: no verdict, since no point was measured."]
    assert "No point was measured." in text


def test_a_run_that_cannot_be_read_is_a_failed_point(tmp_path: Path) -> None:
    state = made_up(tmp_path, ["concurrency=1,2"], even, rounds=3)
    (state.run_folder(2) / "run.json").write_text("{")
    points, unreadable = measured_points(state)
    table = long_table(state, points, unreadable)
    assert table.loc[table["point"] == 2, "status"].tolist() == ["failed"]
    assert "cannot be read" in headline(state, table, []) or "cannot be read" in table.loc[table["point"] == 2, "reason"].iloc[0]


def test_a_point_whose_rows_are_gone_is_a_failed_point(tmp_path: Path) -> None:
    state = made_up(tmp_path, ["concurrency=1,2"], even, rounds=3)
    rows = state.run_folder(2) / "requests.csv"
    rows.write_text(rows.read_text(encoding="utf-8").partition("\n")[0] + "\n", encoding="utf-8")
    found, text = outputs(state)
    assert found.lines[0].startswith("1 OF 2 POINTS FAILED: ")
    assert "requests.csv is damaged near line 1: it has 0 rows of run 0" in text
