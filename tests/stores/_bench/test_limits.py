"""The physical limit beside a store: which one, and that it moves the bytes."""

import errno
import json
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import require

from harness.core.errors import StoreUnavailable
from harness.stores import open_store
from harness.stores._bench import limit_of
from harness.stores._bench.callers import Callers
from harness.stores._bench.limits import FioLimit, SocketLimit, receive, timing_of
from harness.stores.base import Store

TOLD = {"jobs": [{"read": {"bw_bytes": 2_000_000_000, "lat_ns": {"mean": 33_000.0}}}]}


@pytest.fixture
def callers() -> Iterator[Callers]:
    callers = Callers(4, 0, 1)
    yield callers
    callers.close()


@pytest.fixture
def fio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that says what fio says, and writes down how it was called."""
    program = tmp_path / "bin" / "fio"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho \"$@\" > {tmp_path}/called\necho '{json.dumps(TOLD)}'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr("harness.stores._bench.limits.fio_program", lambda: str(program))
    return program


def test_fio_is_asked_for_what_the_store_reads(fio: Path, callers: Callers, tmp_path: Path) -> None:
    with open_store(f"file://{tmp_path}/kv") as store:
        limit, said = limit_of(store, (4096, 65536), 16)
        assert isinstance(limit, FioLimit)
        assert "(page cache)" in said
        assert sum(file.stat().st_size for file in (tmp_path / "kv").rglob("data")) == 16 * 65536
        assert list(store.keys()) == []
        timing = limit.measure(callers, 65536, 4, [memoryview(b"")] * 10)
        limit.close()
    assert timing.seconds == pytest.approx(655_360 / 2e9)
    assert timing.call_s == pytest.approx(33e-6)
    called = (tmp_path / "called").read_text().split()
    for word in ("--bs=65536", "--direct=0", "--numjobs=4", "--invalidate=0", f"--size={16 * 65536}"):
        assert word in called
    assert list((tmp_path / "kv").iterdir()) == []


def test_fio_that_fails_is_one_sentence(fio: Path, callers: Callers, tmp_path: Path) -> None:
    fio.write_text("#!/bin/sh\necho no such engine >&2\nexit 1\n")
    limit = FioLimit(str(fio), tmp_path, 4096, direct=True)
    with pytest.raises(StoreUnavailable, match="fio ended with exit status 1: no such engine; --no-limit skips it"):
        limit.measure(callers, 4096, 1, [memoryview(b"")])
    limit.close()


def test_the_real_fio_says_what_is_read_of_it(callers: Callers, tmp_path: Path) -> None:
    limit = FioLimit(require("fio", "fio"), tmp_path, 1 << 20, direct=False)
    timing = limit.measure(callers, 65536, 2, [memoryview(b"")] * 16)
    limit.close()
    assert 0 < timing.call_s < 60
    assert timing.seconds > 0


def test_fios_numbers_are_scaled_to_what_was_read() -> None:
    assert timing_of(TOLD, 1_000_000_000).seconds == 0.5


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, mode: str) -> object:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(StoreUnavailable, match=r"cannot write 4,096 bytes for fio to .*: No space left on device; make room"):
        FioLimit("fio", tmp_path, 4096, direct=False)
    assert list(tmp_path.iterdir()) == []


def test_without_fio_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("harness.stores._bench.limits.fio_program", lambda: None)
    with open_store(f"file://{tmp_path}") as store:
        assert limit_of(store, (4096,), 8) == (
            None, "no limit is measured beside it: fio is not installed (Debian: apt-get install fio)",
        )  # fmt: skip


def test_direct_reads_of_odd_sizes_have_no_limit(fio: Path, tmp_path: Path) -> None:
    with open_store(f"file://{tmp_path}") as store:
        store.options = store.Options(direct=True)  # type: ignore[call-arg]
        limit, said = limit_of(store, (4096, 5000), 8)
    assert limit is None
    assert "multiples of 4,096" in said


def test_a_shaped_store_is_its_own_limit(tmp_path: Path) -> None:
    with open_store(f"shaped+file://{tmp_path}?latency_ms=1") as store:
        limit, said = limit_of(store, (4096,), 8)
    assert limit is None
    assert "as fast as its URL asks for" in said


class Elsewhere(Store):
    """Behind a network, as far as anybody can tell."""

    def __init__(self) -> None:
        pass

    exists = read = write = delete = keys = None  # type: ignore[assignment]


def test_others_are_set_against_a_bare_socket(callers: Callers) -> None:
    limit, said = limit_of(Elsewhere(), (4096, 100_000), 8)
    assert isinstance(limit, SocketLimit)
    assert "loopback" in said
    places = [memoryview(bytearray(100_000)) for _ in range(8)]
    assert limit.measure(callers, 100_000, 4, places).seconds > 0
    expected = (bytes(range(256)) * 391)[:100_000]
    assert all(place == expected for place in places)
    limit.close()


def test_a_connection_that_closes_early_is_an_error() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"abc")
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionError, match="after 3 of 5 bytes"):
            receive(ours, memoryview(bytearray(5)))
