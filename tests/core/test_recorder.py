"""The recorder: nothing is lost or counted twice, from however many threads."""

from concurrent.futures import ThreadPoolExecutor

from harness.core.spans import Recorder, Span


def span(number: int) -> Span:
    return Span("fetch", layer=number, start_s=float(number), end_s=number + 0.5, bytes=7, keys=1, request="r")


def test_spans_come_out_once_in_their_order() -> None:
    recorder = Recorder()
    recorder.add(span(1))
    recorder.add(span(2))
    assert recorder.take() == [span(1), span(2)]
    recorder.add(span(3))
    assert recorder.take() == [span(3)]
    assert recorder.take() == []


def test_a_disabled_recorder_keeps_nothing() -> None:
    recorder = Recorder(enabled=False)
    recorder.add(span(1))
    assert recorder.take() == []


def test_threads_share_one() -> None:
    recorder = Recorder()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: recorder.add(span(number)), range(2000)))
    assert sorted(found.layer for found in recorder.take()) == list(range(2000))


def test_recorders_share_nothing() -> None:
    Recorder().add(span(1))
    assert Recorder().take() == []
