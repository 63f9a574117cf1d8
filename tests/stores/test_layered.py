"""One object a layer: what lies where, and that ranges come back whichever way they are cut."""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.core.chunks import KVGeometry, Layout
from harness.core.errors import ChunkMissing, ForeignChunk, NotAChunk, ReadFailures
from harness.stores.base import Buffer, Read, Store, open_store
from harness.stores.layered import LABEL_BYTES, Layered, in_layout
from harness.testing.stores import fetch, pattern

GEOMETRY = KVGeometry(
    layers=4, block_tokens=16, block_bytes=2500, chunk_blocks=2, dtype="float32"
)  # a layer: 5,000 of 8,192 bytes
LAYOUT = Layout(GEOMETRY)
NAMES = ["k", "k.l1", "k.l2", "k.l3"]


@pytest.fixture
def inner(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"file://{tmp_path}/kv") as store:
        yield store


@pytest.fixture
def layered(inner: Store) -> Layered:
    return Layered(inner, GEOMETRY)


def test_each_layer_is_an_object_and_the_header_is_with_the_first(layered: Layered, inner: Store) -> None:
    data = pattern(LAYOUT.total_bytes)
    layered.write("k", [data[:100], data[100:20_000], data[20_000:]])
    assert sorted(inner.keys()) == NAMES
    edges = [0, *(LAYOUT.offset(layer) for layer in (1, 2, 3, 4))]
    labels = [0, LABEL_BYTES, LABEL_BYTES, LABEL_BYTES]
    stored = list(zip(NAMES, labels, pairwise(edges), strict=True))
    assert [fetch(inner, name, label, end - begin)[0] for name, label, (begin, end) in stored] == [
        data[begin:end] for begin, end in pairwise(edges)
    ]
    assert [inner.size(name) for name in NAMES] == [label + end - begin for _, label, (begin, end) in stored]
    assert layered.size("k") == len(data)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_any_range_into_any_buffers_by_either_call(layered: Layered, draw: st.DataObject) -> None:
    size = LAYOUT.total_bytes
    layered.write("k", [pattern(size)])
    begin, end = sorted(draw.draw(st.lists(st.integers(0, size), min_size=2, max_size=2), label="range"))
    cuts = draw.draw(st.lists(st.integers(begin, end), max_size=6), label="cuts")
    sizes = [after - before for before, after in pairwise([begin, *sorted(cuts), end])]
    assert b"".join(fetch(layered, "k", begin, *sizes)) == pattern(size)[begin:end]
    out = [bytearray(count) for count in sizes]
    asyncio.run(layered.aread([Read("k", begin, tuple(map(memoryview, out)))]))
    assert b"".join(out) == pattern(size)[begin:end]


def test_a_layer_touches_its_object_and_a_chunk_all_of_them(layered: Layered) -> None:
    whole = Read("k", 0, (memoryview(bytearray(LAYOUT.total_bytes)),))
    layer = Read("k", LAYOUT.offset(2), (memoryview(bytearray(LAYOUT.layer_stride)),))
    two = Read("k", LAYOUT.offset(1), (memoryview(bytearray(2 * LAYOUT.layer_stride)),))
    assert [layered.objects(item) for item in (whole, layer, two)] == [4, 1, 2]


def test_a_lost_layer_fails_the_reads_that_need_it_and_no_others(layered: Layered, inner: Store) -> None:
    for key in ("a", "b"):
        layered.write(key, [pattern(LAYOUT.total_bytes)])
    inner.delete(["a.l2"])
    out = [bytearray(LAYOUT.total_bytes), bytearray(LAYOUT.layer_stride), bytearray(LAYOUT.total_bytes)]
    with pytest.raises(ReadFailures) as caught:
        layered.read(
            [
                Read("a", 0, (memoryview(out[0]),)),
                Read("a", LAYOUT.offset(1), (memoryview(out[1]),)),
                Read("b", 0, (memoryview(out[2]),)),
            ]
        )
    assert set(caught.value.failures) == {0}
    assert isinstance(caught.value.failures[0], ChunkMissing)
    assert "a.l2" in str(caught.value)
    assert bytes(out[1]) == pattern(LAYOUT.total_bytes)[LAYOUT.offset(1) : LAYOUT.offset(2)]
    assert bytes(out[2]) == pattern(LAYOUT.total_bytes)


OTHER = KVGeometry(layers=4, block_tokens=16, block_bytes=2500, chunk_blocks=2, dtype="int32")


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ("another chunk's", ForeignChunk),
        ("another rank's", ForeignChunk),
        ("another layer", ForeignChunk),
        ("another model's", ForeignChunk),
        ("something else", NotAChunk),
    ],
)
@pytest.mark.parametrize("offset", [0, 100])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_layer_that_is_not_what_its_name_says_is_never_served(
    layered: Layered, inner: Store, what: str, kind: type[Exception], offset: int, asynchronous: bool
) -> None:
    data = pattern(LAYOUT.total_bytes)
    for key in ("k", "k-r1of2", "other"):
        layered.write(key, [data])
    Layered(inner, OTHER).write("model", [data])
    source = {
        "another chunk's": "other.l2",
        "another rank's": "k-r1of2.l2",
        "another layer": "k.l1",
        "another model's": "model.l2",
    }.get(what)
    stored = fetch(inner, source, 0, inner.size(source))[0] if source else bytes(LABEL_BYTES + LAYOUT.layer_stride)
    inner.write("k.l2", [stored])
    out = bytearray(LAYOUT.layer_stride - offset), bytearray(LAYOUT.layer_stride)
    reads = [
        Read("k", LAYOUT.offset(2) + offset, (memoryview(out[0]),)),
        Read("k", LAYOUT.offset(3), (memoryview(out[1]),)),
    ]
    with pytest.raises(ReadFailures) as caught:
        if asynchronous:
            asyncio.run(layered.aread(reads))
        else:
            layered.read(reads)
    assert {position: type(error) for position, error in caught.value.failures.items()} == {0: kind}
    assert "k.l2" in str(caught.value)
    assert out[1] == data[LAYOUT.offset(3) :]


def test_a_chunk_exists_only_when_all_of_it_is_written(layered: Layered, inner: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    write = inner.write

    def noting(key: str, parts: Sequence[Buffer]) -> None:
        order.append(key)
        write(key, parts)

    monkeypatch.setattr(inner, "write", noting)
    layered.write("k", [pattern(LAYOUT.total_bytes)])
    assert sorted(order[:-1]) == NAMES[1:]
    assert order[-1] == "k"


def test_deleted_wholly_and_listed_once(layered: Layered, inner: Store) -> None:
    layered.write_many([("a", [pattern(LAYOUT.total_bytes)]), ("b", [pattern(LAYOUT.total_bytes)])])
    assert sorted(layered.keys()) == ["a", "b"]
    assert layered.exists(["a", "b", "c"]) == 2
    layered.delete(["a", "never"])
    assert sorted(inner.keys()) == ["b", "b.l1", "b.l2", "b.l3"]
    layered.delete(["b"])
    assert list(inner.keys()) == []


def test_a_shorter_object_leaves_nothing_of_the_longer_one(layered: Layered, inner: Store) -> None:
    layered.write("k", [pattern(LAYOUT.total_bytes)])
    layered.write("k", [b"short"])
    assert list(inner.keys()) == ["k"]
    assert layered.size("k") == 5


def test_the_page_cache_is_asked_for_all_layers(layered: Layered) -> None:
    layered.write("k", [pattern(LAYOUT.total_bytes)])
    fetch(layered, "k", 0, LAYOUT.total_bytes)
    assert layered.cached_fraction(["k"]) == 1.0
    if layered.evict_from_os_cache(["k"]):
        assert layered.cached_fraction(["k"]) == 0.0
        layered.fill_os_cache(["k"])
        assert layered.cached_fraction(["k"]) == 1.0
    layered.evict_from_os_cache(["k"])
    assert layered.size("k") == LAYOUT.total_bytes  # nothing was lost


def test_one_layer_only(inner: Store) -> None:
    one = KVGeometry(layers=1, block_tokens=16, block_bytes=2500, chunk_blocks=2, dtype="float32")
    data = pattern(Layout(one).total_bytes)
    store = Layered(inner, one)
    store.write("k", [data])
    assert list(inner.keys()) == ["k"]
    assert fetch(store, "k", 5000, 100) == [data[5000:5100]]


def test_a_worker_says_which_layout_it_has(inner: Store) -> None:
    geometry = {"layers": 2, "block_tokens": 16, "block_bytes": 64, "chunk_blocks": 2, "dtype": "float32"}
    assert in_layout(inner, {}) is inner
    assert in_layout(inner, {"identity": {}, "geometry": geometry}) is inner
    told = in_layout(inner, {"identity": {"layout": "layer"}, "geometry": geometry})
    assert isinstance(told, Layered)
    assert told.names("k") == ["k", "k.l1"]
