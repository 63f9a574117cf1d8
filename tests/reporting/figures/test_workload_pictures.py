from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from harness.core.errors import ResultsError
from harness.reporting.figures.style import paper
from harness.reporting.figures.workload import draw_arrivals, draw_lengths, draw_reuse, draw_workload
from harness.workloads.outline import Outline, columns

PROMPTS = [1000, 1500, 600, 1500, 2048]
HITS = [0, 1000, 0, 1500, 1500]
TIMES = [0, 0.1, 2, 2.5, 9]


def outline(times: Sequence[float] = TIMES, count: int = 5) -> Outline:
    rows = zip(PROMPTS * (count // 5), HITS * (count // 5), times, strict=True)
    return Outline(*columns((prompt, hit, 4, 100, time) for prompt, hit, time in rows))


@pytest.fixture(autouse=True)
def _paper() -> Iterator[None]:
    with paper():
        yield


def test_three_pictures_are_written(tmp_path: Path) -> None:
    files = draw_workload(outline(), 256, "mooncake:path=$x$.jsonl", tmp_path / "new")
    assert [file.name for file in files] == ["lengths.png", "reuse.png", "arrivals.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)


def test_without_a_clock_an_earlier_picture_of_arrivals_goes(tmp_path: Path) -> None:
    draw_workload(outline(), 256, "x", tmp_path)
    files = draw_workload(outline([0.0] * 5), 256, "x", tmp_path)
    assert [file.name for file in files] == ["lengths.png", "reuse.png"]
    assert not (tmp_path / "arrivals.png").exists()


def test_lengths_count_every_prompt() -> None:
    top, bottom = draw_lengths(outline()).axes
    assert sum(patch.get_height() for patch in top.patches) == 5  # type: ignore[attr-defined]
    labels = [line.get_label() for line in bottom.lines]
    assert labels == ["prompt", "ideal hit (40% are 0)", "output in the trace"]
    prompts = bottom.lines[0]
    assert max(np.asarray(prompts.get_xdata())) == 2048
    assert max(np.asarray(prompts.get_ydata())) == 1


def test_reuse_ends_at_the_hit_rate_of_all() -> None:
    (axes,) = draw_reuse(outline(), 256).axes
    points, exact, chunks = axes.lines
    assert np.asarray(points.get_ydata()).tolist() == pytest.approx([0, 1000 / 1500, 0, 1, 1500 / 2048])
    assert np.asarray(exact.get_ydata())[-1] == pytest.approx(4000 / 6648)
    assert np.asarray(chunks.get_ydata())[-1] == pytest.approx((768 + 1280 + 1280) / 6648)


def test_a_long_trace_is_thinned_and_says_so() -> None:
    count = 50_000
    long = outline(np.arange(count).tolist(), count)
    (axes,) = draw_reuse(long, 256).axes
    assert len(np.asarray(axes.lines[0].get_xdata())) == 20_000
    assert axes.lines[0].get_label() == "one request (20,000 of them)"
    assert len(np.asarray(draw_lengths(long).axes[1].lines[0].get_xdata())) < 3000


def test_arrivals_hold_every_request() -> None:
    picture = draw_arrivals(outline())
    assert picture is not None
    top, bottom = picture.axes
    rate, edges, _ = top.patches[0].get_data()  # type: ignore[attr-defined]
    assert (rate * np.diff(edges)).sum() == pytest.approx(5)
    assert [line.get_label() for line in bottom.lines] == ["trace", "Poisson"]


def test_a_folder_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="the pictures cannot be written to"):
        draw_workload(outline(), 256, "x", tmp_path / "file")
