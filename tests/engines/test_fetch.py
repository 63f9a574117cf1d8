"""One call: what is read, what is checked, what is recorded; blocking and asynchronous alike."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from harness.core.chunks import SKIP, Layout
from harness.core.errors import ChunkMissing, ReadFailures, StoreUnavailable
from harness.core.spans import Recorder
from harness.engines.fetch import Fetcher, Piece
from harness.testing.faults import flip_a_bit, spoil
from harness.testing.small_kv import SmallKV, layer_data
from harness.testing.watched_store import Call, WatchedStore

Fetch = Callable[[Fetcher, Sequence[Piece]], list[Piece]]

FETCHES: dict[str, Fetch] = {
    "fetch": lambda fetcher, pieces: fetcher.fetch(pieces),
    "afetch": lambda fetcher, pieces: asyncio.run(fetcher.afetch(pieces)),
}


@pytest.fixture(params=sorted(FETCHES))
def fetch(request: pytest.FixtureRequest) -> Fetch:
    return FETCHES[request.param]


@pytest.fixture(params=[False, True], ids=["direct", "staged"])
def staged(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def fetcher(kv: SmallKV, staged: bool, verify: bool = False) -> Fetcher:
    return Fetcher(kv.store, kv.cache, Recorder(), staged=staged, verify=verify, layers_at_once=18)


def test_a_run_of_layers_lands_in_these_layers_only(kv: SmallKV, fetch: Fetch, staged: bool) -> None:
    request = kv.request("a", 2, (9, 3, 7, 1))
    before = {layer: kv.contents(layer) for layer in (0, 1, 4, 5)}
    assert fetch(fetcher(kv, staged), [Piece(request, 1, 2, 2)]) == []
    for layer in (2, 3):
        found = kv.contents(layer)
        assert found[7] + found[1] == layer_data(kv.cache.geometry, request.chunks[1], layer)
    assert {layer: kv.contents(layer) for layer in (0, 1, 4, 5)} == before


def test_only_the_first_layer_brings_the_header(kv: SmallKV, fetch: Fetch, staged: bool) -> None:
    request = kv.request("a", 1, (9, 3))
    watched = WatchedStore(kv.store)
    layout = Layout(kv.cache.geometry)
    target = Fetcher(watched, kv.cache, Recorder(), staged=staged, verify=False)
    for first, count in ((0, 1), (1, 2), (5, 1)):
        fetch(target, [Piece(request, 0, first, count)])
    assert [(call.reads[0].offset, call.reads[0].length) for call in watched.calls] == [
        (0, layout.offset(1)),
        (layout.offset(1), 2 * layout.layer_stride),
        (layout.offset(5), layout.layer_stride),
    ]


@pytest.mark.parametrize(("wanted_ms", "seconds"), [(0, 30), (2_000, 2), (3_600_000, 30)])
def test_a_request_can_shorten_its_deadline_and_not_lengthen_it(kv: SmallKV, wanted_ms: int, seconds: float) -> None:
    target = Fetcher(kv.store, kv.cache, Recorder(), staged=False, verify=False, deadline_s=30)
    request = replace(kv.request("a", 1, (9, 3)), deadline_ms=wanted_ms)
    before = time.monotonic()
    target.begin_step([request])
    assert before + seconds <= target.deadline(request) <= time.monotonic() + seconds


@pytest.mark.parametrize("blocks", [(9, 3), (SKIP, 3), (SKIP, SKIP)])
def test_checksums_of_later_layers_are_those_of_the_header(
    kv: SmallKV, fetch: Fetch, staged: bool, blocks: tuple[int, int]
) -> None:
    """Which is read for the purpose."""
    request = kv.request("a", 1, blocks)
    flip_a_bit(kv, request.chunks[0], 4)
    assert fetch(fetcher(kv, staged, verify=True), [Piece(request, 0, 1, 3)]) == []
    bad = Piece(request, 0, 3, 2)
    assert fetch(fetcher(kv, staged, verify=True), [bad]) == [bad]
    assert fetch(fetcher(kv, staged, verify=False), [bad]) == []


def test_checking_needs_the_header(kv: SmallKV, fetch: Fetch, staged: bool) -> None:
    request = kv.request("a", 1, (9, 3))
    spoil(kv, request.chunks[0], "header damaged")
    piece = Piece(request, 0, 3, 2)
    assert fetch(fetcher(kv, staged, verify=True), [piece]) == [piece]


def test_failed_pieces_are_those_that_the_store_names(kv: SmallKV, fetch: Fetch, staged: bool) -> None:
    request = kv.request("a", 3, range(6))
    kv.store.delete(request.chunks[1:2])
    pieces = [Piece(request, index, 0, 6) for index in range(3)]
    target = fetcher(kv, staged)
    assert fetch(target, pieces) == pieces[1:2]
    kv.expect(request, request.chunks[1:2])
    kv.check_all()


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), ReadFailures({0: ChunkMissing("a"), 1: ChunkMissing("b")})])
def test_an_error_of_the_whole_call_fails_all_pieces(kv: SmallKV, fetch: Fetch, staged: bool, error: Exception) -> None:
    def refuse(call: Call) -> None:
        raise error

    request = kv.request("a", 2, range(4))
    target = Fetcher(WatchedStore(kv.store, refuse), kv.cache, Recorder(), staged=staged, verify=False)
    pieces = [Piece(request, index, 0, 6) for index in range(2)]
    assert fetch(target, pieces) == pieces
    kv.check_all()


def test_a_refused_chunk_is_not_copied_from_staging(kv: SmallKV, fetch: Fetch) -> None:
    """Where there is a copy, it comes after the checks, so the blocks keep what they held."""
    request = kv.request("a", 1, (9, 3))
    spoil(kv, request.chunks[0], "of another chunk")
    piece = Piece(request, 0, 0, 6)
    assert fetch(fetcher(kv, staged=True), [piece]) == [piece]
    kv.check_all()


def test_spans_hold_bytes_keys_layer_and_request(kv: SmallKV, fetch: Fetch, staged: bool) -> None:
    request = kv.request("a", 3, range(6))
    layout = Layout(kv.cache.geometry)
    target = fetcher(kv, staged)
    fetch(target, [Piece(request, index, 0, 6) for index in range(3)])
    fetch(target, [Piece(request, index, 2, 1) for index in range(2)])
    kinds = ["fetch", "copy"] if staged else ["fetch"]
    assert [(s.kind, s.layer, s.bytes, s.keys, s.request) for s in target.recorder.take()] == [
        *((kind, -1, 3 * layout.total_bytes, 3, "a") for kind in kinds),
        *((kind, 2, 2 * layout.layer_stride, 2, "a") for kind in kinds),
    ]


def test_what_the_ring_cannot_hold_at_once_is_read_by_several_calls(kv: SmallKV, fetch: Fetch) -> None:
    """Host memory for staging is bounded, however large the batch."""
    request = kv.request("a", 5, range(10))
    watched = WatchedStore(kv.store)
    target = Fetcher(watched, kv.cache, Recorder(), staged=True, verify=False)
    assert kv.cache.ring().count == 6
    assert fetch(target, [Piece(request, index, 2, 3) for index in range(5)]) == []
    assert [len(call.reads) for call in watched.calls] == [2, 2, 1]
    for layer in (2, 3, 4):
        data = b"".join(layer_data(kv.cache.geometry, key, layer) for key in request.chunks)
        assert b"".join(kv.contents(layer)[:10]) == data


def test_reads_straight_into_blocks_need_no_host_memory(kv: SmallKV, fetch: Fetch) -> None:
    target = Fetcher(kv.store, kv.cache, Recorder(), staged=False, verify=False, layers_at_once=18)
    assert fetch(target, [Piece(kv.request("a", 1, (9, 3)), 0, 0, 6)]) == []
    assert kv.cache._ring is None


def test_the_ring_is_there_before_the_first_load_and_stays(kv: SmallKV, fetch: Fetch) -> None:
    """A load allocates none of it, however many engines share it."""
    target = fetcher(kv, staged=True)
    before = kv.cache.ring()
    Fetcher(kv.store, kv.cache, Recorder(), staged=True, verify=False, layers_at_once=6)
    for number in range(3):
        assert fetch(target, [Piece(kv.request(f"r{number}", 1, (9, 3)), 0, 0, 6)]) == []
    assert kv.cache.ring() is before
    assert before.count == 36
