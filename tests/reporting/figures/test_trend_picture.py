"""The picture of a history: a panel an arm pair, change points marked."""

from pathlib import Path

import pytest
from histories import A, B, frame, noisy, rows

from harness.core.errors import ResultsError, UsageError
from harness.gate.history import series_of
from harness.reporting.figures.trend import MOST_PANELS, draw, save


def test_a_panel_an_arm_pair_with_its_metrics_and_changes(tmp_path: Path) -> None:
    step = noisy([(0.8, 12), (0.95, 12)])
    figure = draw(series_of(frame([*rows(step), *rows(step, "p95"), *rows([0.7], arm="other")])))
    first, second = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == [f"{A} against {B}", f"other against {B}"]
    legend = first.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["p50, 24 verdicts", "p95, 24 verdicts"]
    assert [text.get_text().split()[0::2] for text in first.texts] == [["p50", "c12"], ["p95", "c12"]]
    assert not second.texts
    for name in ("trend.png", "deep/trend.svg"):
        save(figure, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 5000


def test_hostile_names_unknown_bounds_and_failures_are_drawn(tmp_path: Path) -> None:
    strange = rows([0.8, 1.3], outcome="FAIL", arm="$x_{1}$\u202e\u4e2d@" + "long" * 50)
    for row in strange:
        row |= {"low": None, "high": None, "commit": "$\\frac"}
    figure = draw(series_of(frame(strange)))
    save(figure, tmp_path / "trend.png")
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert [len(line.get_xdata()) for line in crosses] == [2]  # type: ignore[arg-type]


def test_of_very_many_arms_the_first_are_shown() -> None:
    figure = draw(series_of(frame([row for number in range(14) for row in rows([0.8], arm=f"a{number}")])))
    assert len(figure.axes) == MOST_PANELS
    assert "2 further pairs of arms are not shown" in figure.get_supxlabel()


def test_a_picture_that_cannot_be_written(tmp_path: Path) -> None:
    figure = draw(series_of(frame(rows([0.8]))))
    with pytest.raises(UsageError, match=r"unknown kind of picture '\.jpeg'"):
        save(figure, tmp_path / "trend.jpeg")
    (tmp_path / "taken").write_text("")
    with pytest.raises(ResultsError, match="cannot be written"):
        save(figure, tmp_path / "taken" / "trend.png")
