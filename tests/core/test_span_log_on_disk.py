"""The log of spans never ends a forward: a full disk drops records, a long log begins anew, and readers follow it."""

import errno
import json
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.spans import SpanLog
from harness.experiment.span_log import SpanLogReader

START = {"kind": "start", "torch_threads": 2}


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def save(number: int) -> dict[str, object]:
    return {"kind": "save", "key": f"k{number}", "checksums": [number]}


@pytest.fixture
def small_disk() -> Iterator[int]:
    """Files of this process can have 20,000 bytes: the write that passes it is short, the next one fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield 20_000
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_drops_whole_records_and_says_so_once(
    tmp_path: Path, small_disk: int, caplog: pytest.LogCaptureFixture
) -> None:
    trace = SpanLog(str(tmp_path), "worker-0")
    trace.write(START)
    for number in range(20):
        trace.write({**save(number), "checksums": [number] * 1000})
    trace.close()
    kept = lines(tmp_path / "worker-0.jsonl")
    assert kept[0] == START
    assert len(kept) + trace.dropped == 21
    assert trace.dropped > 0
    assert (tmp_path / "worker-0.jsonl").stat().st_size <= small_disk
    assert len([record for record in caplog.records if "records are dropped" in record.message]) == 1


def test_records_are_written_again_once_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = SpanLog(str(tmp_path), "worker-0")
    with monkeypatch.context() as broken:

        def full(line: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        broken.setattr(trace, "_append", full)
        trace.write(save(1))
    trace.write(save(2))
    trace.close()
    assert (lines(tmp_path / "worker-0.jsonl"), trace.dropped) == ([save(2)], 1)


def test_a_long_log_begins_anew_with_its_start_and_a_reader_misses_nothing(tmp_path: Path) -> None:
    trace, reader = SpanLog(str(tmp_path), "worker-0", limit=400), SpanLogReader(tmp_path)
    trace.write(START)
    for number in range(100):
        trace.write(save(number))
        if number % 3 == 0:
            reader.poll()
    reader.poll()
    trace.close()
    assert reader.saved == {f"k{number}": [number] for number in range(100)}
    assert reader.start == START
    assert lines(tmp_path / "worker-0.jsonl")[0] == START
    assert sorted(path.name for path in tmp_path.iterdir()) == ["worker-0.jsonl", "worker-0.jsonl.1"]
    assert all(path.stat().st_size <= 400 for path in tmp_path.iterdir())
