"""An open loop sends at its times, waits for nobody, and ends with the first error."""

import asyncio
import time

import pytest

from harness.replay.lag import LAG_S, lag_reason
from harness.replay.loops import open_loop


async def test_a_request_leaves_though_the_one_before_never_answers() -> None:
    sent: list[int] = []
    release = asyncio.Event()

    async def send(position: int, planned: float) -> None:
        sent.append(position)
        if position == 2:
            release.set()
        await release.wait()

    await asyncio.wait_for(open_loop([0.0, 0.001, 0.002], send), 5)
    assert sent == [0, 1, 2]


async def test_nothing_leaves_before_its_time() -> None:
    begin = time.perf_counter()
    early: list[float] = []

    async def send(position: int, planned: float) -> None:
        early.append(time.perf_counter() - planned)
        assert planned - begin >= 0.01 * position

    await open_loop([0.0, 0.01, 0.02], send)
    assert len(early) == 3 and min(early) >= 0


async def test_an_error_is_raised_as_it_is_and_the_rest_is_cancelled() -> None:
    cancelled: list[int] = []

    async def send(position: int, planned: float) -> None:
        if position == 1:
            raise ValueError("the second")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(position)
            raise

    with pytest.raises(ValueError, match="the second"):
        await asyncio.wait_for(open_loop([0.0, 0.001, 60.0], send), 5)
    assert cancelled == [0]


async def test_nothing_to_send_is_no_error() -> None:
    async def send(position: int, planned: float) -> None:
        raise AssertionError

    await open_loop([], send)


@pytest.mark.parametrize(
    ("lags", "ttfts", "kept"),
    [
        ([0.0] * 20, [1.0] * 20, True),
        ([0.09] * 20, [1.0] * 20, True),
        ([0.11] * 20, [1.0] * 20, False),
        ([0.0] * 39 + [5.0], [1.0] * 40, True),  # one in twenty may be late
        ([0.0] * 9 + [5.0], [1.0] * 10, False),
        ([LAG_S / 2] * 5, [1e-6] * 5, True),  # half a millisecond is nobody's fault
        ([], [], True),
    ],
)
def test_lag_is_judged_against_what_is_measured(lags: list[float], ttfts: list[float], kept: bool) -> None:
    assert (lag_reason(lags, ttfts) == "") is kept
