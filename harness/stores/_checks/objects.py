"""Checks of one caller: what is written, read, looked up, listed and deleted."""

import numpy as np

from harness.core.chunks import KVGeometry, Layout
from harness.core.errors import ChunkMissing, ChunkTruncated, ReadFailures, StoreError
from harness.stores._checks.expecting import NotApplicable, expect, expect_bytes, expect_error, fetch, pattern, same
from harness.stores.base import Read
from harness.stores.layered import Layered
from harness.stores.scoped import Scoped

UNUSUAL_KEYS = (".", "..", "-", "_", "a", "A", ".hidden", "a.b-c_D.kv", "a.tmp", "0" * 32 + "-r0of2.l31")


def objects_come_back_as_written(store: Scoped) -> None:
    """One part in, one buffer out."""
    data = pattern(300_001)
    store.write("whole", [data])
    expect_bytes(store, "whole", data)


def parts_of_every_kind_are_joined(store: Scoped) -> None:
    """bytes, bytearray, memoryviews of any type, and empty parts."""
    words = np.arange(1000, dtype="<u4").data
    store.write("parts", [b"head", bytearray(b""), bytearray(b"middle"), words, memoryview(b"tail")])
    expect_bytes(store, "parts", b"headmiddle" + bytes(words) + b"tail")


def every_legal_key_works(store: Scoped) -> None:
    """Also those that a file system treats in its own way."""
    for key in UNUSUAL_KEYS:
        store.write(key, [key.encode()])
    for key in UNUSUAL_KEYS:
        expect_bytes(store, key, key.encode())


def keys_differ_by_case(store: Scoped) -> None:
    """Capitals make another key."""
    store.write("abc", [b"small"])
    store.write("ABC", [b"large"])
    expect_bytes(store, "abc", b"small")
    expect_bytes(store, "ABC", b"large")


def ranges_are_scattered_into_buffers(store: Scoped) -> None:
    """One range from an odd offset, into buffers of odd sizes, one of them empty."""
    data = pattern(100_000)
    store.write("scatter", [data])
    expect_bytes(store, "scatter", data[17:9117], 17, cuts=(1, 4097, 4097, 9097))


def aligned_ranges_fill_aligned_memory(store: Scoped) -> None:
    """What a store may read without a copy."""
    data = pattern(5 * 4096)
    store.write("aligned", [data])
    memory = np.zeros(4 * 4096, np.uint8)
    first = -memory.ctypes.data % 4096
    parts = (memory.data[first : first + 4096], memory.data[first + 4096 : first + 3 * 4096])
    store.read([Read("aligned", 2 * 4096, parts)])
    same(b"".join(parts), data[2 * 4096 :], "aligned")


def a_range_may_go_into_thousands_of_buffers(store: Scoped) -> None:
    """Linux takes 1,024 a call."""
    sizes = [1 + i % 7 for i in range(3000)]
    data = pattern(sum(sizes))
    store.write("many", [data[i : i + 5] for i in range(0, len(data), 5)])
    same(b"".join(fetch(store, "many", 0, *sizes)), data, "many")


def a_batch_fills_the_rest_and_names_the_missing(store: Scoped) -> None:
    """A failed read leaves its batch alone."""
    store.write("first", [b"1" * 5000])
    store.write("last", [b"2" * 5000])
    out = [bytearray(5000) for _ in range(3)]
    reads = [Read(key, 0, (memoryview(part),)) for key, part in zip(["first", "absent", "last"], out, strict=True)]
    try:
        store.read(reads)
    except ReadFailures as error:
        failures = error.failures
    else:
        failures = {}
    expect(set(failures) == {1}, f"of a batch whose second object is missing, the reads {sorted(failures)} failed, not [1]")
    missing = failures[1]
    expect(isinstance(missing, ChunkMissing), f"a missing object of a batch is {type(missing).__name__}, not ChunkMissing")
    expect("absent" in str(missing), f"the error doesn't name the missing object 'absent': {missing}")
    same(out[0], b"1" * 5000, "first")
    same(out[2], b"2" * 5000, "last")


def reading_past_the_end_is_truncated(store: Scoped) -> None:
    """Ends inside, at the edge of, and before the range."""
    for size, offset, wanted in ((5000, 4990, 11), (8192, 4096, 4097), (8192, 20_000, 1), (10, 0, 8192)):
        key = f"short-{size}-{offset}"
        store.write(key, [pattern(size)])
        what = f"a read of {wanted:,} bytes from {offset:,} on, of an object of {size:,}"
        expect_error(ChunkTruncated, key, what, lambda key=key, offset=offset, wanted=wanted: fetch(store, key, offset, wanted))  # type: ignore[misc]


def empty_batches_do_nothing(store: Scoped) -> None:
    """Nothing in, nothing done."""
    store.read([])
    store.write_many([])
    store.delete([])
    expect(store.exists([]) == 0, "exists of no keys is not 0")


def exists_counts_up_to_the_first_gap(store: Scoped) -> None:
    """The longest present prefix."""
    keys = [f"key-{i}" for i in range(6)]
    store.write_many((key, [b"x"]) for key in keys if key != "key-4")
    for asked, wanted in ((keys, 4), (keys[:3], 3), (["absent", *keys], 0)):
        found = store.exists(asked)
        expect(found == wanted, f"exists({asked}) is {found}, not {wanted}, where only key-4 and absent are missing")


def what_is_deleted_is_missing(store: Scoped) -> None:
    """And may come again; what is missing may be deleted."""
    store.write_many([("gone", [b"1"]), ("kept", [b"2"])])
    store.delete(["gone", "never-there"])
    expect(store.exists(["gone"]) == 0, "a deleted object still exists")
    expect_error(ChunkMissing, "gone", "reading a deleted object", lambda: fetch(store, "gone", 0, 1))
    expect_bytes(store, "kept", b"2")
    store.write("gone", [b"again"])
    expect_bytes(store, "gone", b"again")


def keys_are_listed(store: Scoped) -> None:
    """All that are there, once each, without those that were deleted, and without what belongs to writing."""
    names = {*UNUSUAL_KEYS, "twice"}
    store.write_many((key, [b"x" * 5000]) for key in [*names, "gone"])
    store.write("twice", [b"new"])
    store.delete(["gone"])
    listed = sorted(store.keys())
    missing, more = sorted(names.difference(listed)), sorted(set(listed).difference(names))
    expect(not missing, f"keys() leaves out {missing}")
    expect(not more, f"keys() lists {more}, which were deleted or never written")
    expect(len(listed) == len(names), "keys() lists a key twice")


def a_size_is_the_length_of_the_object(store: Scoped) -> None:
    """Where the store tells sizes at all."""
    store.write("sized", [pattern(4097)])
    try:
        found = store.size("sized")
    except NotImplementedError as error:
        raise NotApplicable(str(error)) from None
    expect(found == 4097, f"the size of an object of 4,097 bytes is {found:,}")
    expect_error(ChunkMissing, "absent", "the size of a missing object", lambda: store.size("absent"))


def a_second_write_wins_or_loses_wholly(store: Scoped) -> None:
    """As ``replaces`` says; where it wins, nothing of the longer object stays."""
    store.write("twice", [pattern(9000)])
    expect_bytes(store, "twice", pattern(9000)[:1])
    store.write("twice", [b"new"])
    if not store.replaces:
        expect_bytes(store, "twice", pattern(9000))
        store.delete(["twice"])
        store.write("twice", [b"new"])
    expect_bytes(store, "twice", b"new")
    expect_error(ChunkTruncated, "twice", "reading past the end of a shorter object", lambda: fetch(store, "twice", 0, 4))


def evicting_loses_nothing_and_says_the_truth(store: Scoped) -> None:
    """True means that nothing is left in the page cache; what is brought in again is what was written."""
    store.write("cold", [pattern(50_000)])
    evicted = store.evict_from_os_cache(["cold"])
    left = (store.cached_fraction(["cold"]) if evicted else None) or 0.0
    expect(left == 0, f"evict_from_os_cache said that nothing is left, but {left:.0%} of the object is")
    expect_bytes(store, "cold", pattern(50_000))
    before = store.cached_fraction(["cold"])
    store.fill_os_cache(["cold"])
    fraction = store.cached_fraction(["cold"])
    expect(before is None or fraction is None or fraction >= before, f"filling took the object from {before} to {fraction}")
    expect_bytes(store, "cold", pattern(50_000))
    expect(fraction is None or 0 <= fraction <= 1, f"cached_fraction is {fraction}, not a share from 0 to 1")
    if not evicted and fraction is None:
        raise NotApplicable("its objects are in no page cache of this machine that it could tell of")


def errors_are_one_sentence_with_the_key(store: Scoped) -> None:
    """Users see these messages as they are."""
    error = expect_error(StoreError, "no-such-object", "reading a missing object", lambda: fetch(store, "no-such-object", 0, 1))
    expect("\n" not in "".join(map(str, error.args)), f"the error of a missing object has several lines: {error!s:.200}")


def a_layer_may_be_an_object(store: Scoped) -> None:
    """``layout=layer``: whole, by layers, in one batch; a lost layer is named, and deleting leaves nothing."""
    geometry = KVGeometry(layers=3, block_tokens=16, block_bytes=3000, chunk_blocks=2, dtype="float32")
    layered, layout = Layered(store, geometry), Layout(geometry)
    chunks = {key: pattern(layout.total_bytes, seed) for seed, key in enumerate(("a" * 32, "b" * 32))}
    layered.write_many((key, [data[:7], data[7:]]) for key, data in chunks.items())
    expect(layered.exists([*chunks]) == len(chunks), "chunks of a layer an object are not found")
    for key, data in chunks.items():
        same(fetch(layered, key, 0, len(data))[0], data, key)
    middle = [bytearray(layout.layer_stride) for _ in chunks]
    layered.read([Read(key, layout.offset(1), (memoryview(out),)) for key, out in zip(chunks, middle, strict=True)])
    for (key, data), out in zip(chunks.items(), middle, strict=True):
        same(out, data[layout.offset(1) : layout.offset(2)], key)
    first = "a" * 32
    lost = layered.names(first)[2]
    store.delete([lost])
    expect_error(ChunkMissing, lost, "a lost layer", lambda: fetch(layered, first, 0, layout.total_bytes))
    same(fetch(layered, first, 0, layout.offset(2))[0], chunks[first][: layout.offset(2)], first)
    layered.delete(chunks)
    left = [name for key in chunks for name in layered.names(key) if store.exists([name])]
    expect(not left, f"deleting two chunks left {left}")
