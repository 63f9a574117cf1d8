"""The samples that are kept of ``/metrics``, and a scraper that never stands in the way."""

import asyncio
import contextlib
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from stub_vllm import METRICS, StubVllm, serving

from harness.replay import any_server, prometheus
from harness.replay.any_server import find_reset
from harness.replay.prometheus import FAILED_BLOCKS, NAMES, Row, Scraper, failed_blocks, samples


def test_only_what_matters_is_kept_in_long_form() -> None:
    rows = samples(METRICS % (512, 0), 12.5)
    assert [(row["name"], row["value"]) for row in rows] == [
        ("vllm:num_requests_running", 1.0),
        ("vllm:external_prefix_cache_hits_total", 512.0),
        ("vllm:ttft_failed_load_blocks_total", 0.0),
        ("vllm:time_to_first_token_seconds_sum", 2.5),
        ("vllm:time_to_first_token_seconds_count", 5.0),
    ]
    assert {(row["time_s"], row["labels"]) for row in rows} == {(12.5, "engine=0,model_name=small")}


def test_a_label_may_hold_anything() -> None:
    [row] = samples('vllm:num_requests_running{model_name="a \\"b\\", c"} 1.0\n', 0.0)
    assert row["labels"] == 'model_name=a "b", c'


def test_what_is_not_prometheus_is_refused() -> None:
    with pytest.raises(ValueError, match="not in Prometheus' text format"):
        samples("vllm:num_requests_running many\n", 0.0)
    assert samples("<html>nothing</html>", 0.0) == []


@given(
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.text(alphabet='{}",=\\ 0123456789.eENaInf+-abc#\t\0é', max_size=40)), max_size=4
    )
)
def test_a_bad_line_is_a_value_error_and_nothing_else(lines: list[tuple[str, str]]) -> None:
    with contextlib.suppress(ValueError):
        samples("\n".join(name + rest for name, rest in lines), 0.0)


def scrape(stub: StubVllm, seconds: float = 0.0, every_s: float = 60.0) -> tuple[list[Any], list[str]]:
    written: list[Any] = []

    async def go(url: str) -> Scraper:
        async with aiohttp.ClientSession() as http:
            scraper = Scraper(http, url, written.append)
            async with scraper.during(every_s):
                await asyncio.sleep(seconds)
            return scraper

    with serving(stub) as url:
        return written, asyncio.run(go(url)).errors


def test_it_asks_before_after_and_meanwhile() -> None:
    written, errors = scrape(StubVllm())
    assert (len(written), errors) == (2, [])
    assert written[0][0]["time_s"] <= written[1][0]["time_s"]
    often, errors = scrape(StubVllm(), seconds=0.5, every_s=0.01)
    assert len(often) > 2 and errors == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((404, "none"), "the server answered 404"),
        ((200, "vllm:num_requests_running x\n"), "its metrics are not in Prometheus' text format"),
    ],
)
def test_what_it_cannot_get_is_noted(answer: tuple[int, str], error: str) -> None:
    written, errors = scrape(StubVllm(answers={"/metrics": answer}))
    assert written == [] and len(errors) == 2
    assert error in errors[0]


def test_a_row_is_what_the_log_takes(tmp_path: Any) -> None:
    from harness.results.side_tables import append_metrics, load_metrics

    rows: list[Row] = samples(METRICS % (512, 0), 12.5)
    append_metrics(tmp_path, rows)
    append_metrics(tmp_path, rows)
    frame = load_metrics(tmp_path)
    assert len(frame) == 10 and frame["value"].sum() == 2 * (1 + 512 + 2.5 + 5)
    assert len(load_metrics(tmp_path / "none")) == 0


@pytest.mark.parametrize(
    ("told", "count"), [("0.0", 0), ("7.0", 7), ("+Inf", None), ("NaN", None), ("-1", None), ("1e308", None)]
)
def test_a_count_that_does_not_grow_by_one_is_none(told: str, count: float | None) -> None:
    async def ask(url: str) -> float | None:
        async with aiohttp.ClientSession() as http:
            return await failed_blocks(http, url)

    with serving(StubVllm(answers={"/metrics": (200, f"{FAILED_BLOCKS} {told}\n")})) as url:
        assert asyncio.run(ask(url)) == count


def test_no_answer_beside_the_requests_is_read_without_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counters and resets: a server may answer for ever."""
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        answer = web.StreamResponse()
        await answer.prepare(request)
        with contextlib.suppress(OSError):
            while True:
                await answer.write(2**20 * b"# no\n")
                sent += 5 * 2**20
        return answer

    class Endless(StubVllm):
        def app(self) -> web.Application:
            app = web.Application()
            app.router.add_route("*", "/{any:.*}", endless)
            return app

    async def ask(url: str) -> tuple[float | None, str]:
        async with aiohttp.ClientSession() as http:
            return await failed_blocks(http, url), await find_reset(http, url)

    for module, bound in ((prometheus, "ANSWER_BYTES"), (any_server, "LOOKUP_BYTES")):
        monkeypatch.setattr(module, bound, 2**20)
    with serving(Endless()) as url:
        assert asyncio.run(ask(url)) == (None, any_server.RESETS[0])  # it said 200
    assert sent < 2**26
