"""The conformance suite of stores, for pytest.

    class TestMyStore(StoreTests):
        @pytest.fixture
        def url(self, tmp_path: Path) -> str:
            return f"mine://{tmp_path}/kv"

The URL has to name an empty store. Each test opens it, and some open it again in another process.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.chunkfile import Layout
from harness.errors import ChunkMissing, ChunkTruncated, ReadFailures, StoreError
from harness.layered import Layered
from harness.stores.base import Read, Store, open_store
from harness.testing.sharing import SharingTests, fetch, pattern
from harness.types import KVGeometry

__all__ = ["StoreTests", "fetch", "pattern"]

# A store is a fixture of the function, and one property serves all subclasses.
_PROPERTY = settings(
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)


class StoreTests(SharingTests):
    """What every store promises. Subclass it with a fixture ``url``."""

    @pytest.fixture
    def url(self) -> str:
        """The URL of an empty store. Override it."""
        raise NotImplementedError("a subclass of StoreTests needs a fixture 'url'")

    @pytest.fixture
    def store(self, url: str) -> Iterator[Store]:
        """The store, open for one test; emptied after it."""
        with open_store(url) as store:
            yield store
            store.delete(list(store.keys()))

    def test_object_comes_back_as_written(self, store: Store) -> None:
        """One part in, one buffer out."""
        data = pattern(300_001)
        store.write("whole", [data])
        assert fetch(store, "whole", 0, len(data)) == [data]

    def test_parts_of_every_kind_are_joined(self, store: Store) -> None:
        """bytes, bytearray, memoryviews of any type, and empty parts."""
        words = np.arange(1000, dtype="<u4").data
        store.write("parts", [b"head", bytearray(b""), bytearray(b"middle"), words, memoryview(b"tail")])
        expected = b"headmiddle" + bytes(words) + b"tail"
        assert fetch(store, "parts", 0, len(expected)) == [expected]

    @pytest.mark.parametrize("key", [".", "..", "-", "_", "a", "A", ".hidden", "a.b-c_D.kv", "0" * 32 + "-r0of2"])
    def test_every_legal_key_works(self, store: Store, key: str) -> None:
        """Also those that a file system treats in its own way."""
        others = ["other-key", "a.tmp"]
        for name in [*others, key]:
            store.write(name, [name.encode()])
        assert sorted(store.keys()) == sorted([*others, key])
        assert fetch(store, key, 0, len(key)) == [key.encode()]

    def test_keys_differ_by_case(self, store: Store) -> None:
        """Capitals make another key."""
        store.write("abc", [b"small"])
        store.write("ABC", [b"large"])
        assert fetch(store, "abc", 0, 5) == [b"small"]
        assert fetch(store, "ABC", 0, 5) == [b"large"]

    def test_ranges_are_scattered_into_buffers(self, store: Store) -> None:
        """One range from an odd offset, into buffers of odd sizes, one of them empty."""
        data = pattern(100_000)
        store.write("scatter", [data])
        assert fetch(store, "scatter", 17, 1, 4096, 0, 5000, 3) == [
            data[17:18], data[18:4114], b"", data[4114:9114], data[9114:9117],
        ]  # fmt: skip

    def test_aligned_ranges_into_aligned_memory(self, store: Store) -> None:
        """What a store may read without a copy."""
        data = pattern(5 * 4096)
        store.write("aligned", [data])
        memory = np.zeros(4 * 4096, np.uint8)
        first = -memory.ctypes.data % 4096
        parts = (memory.data[first : first + 4096], memory.data[first + 4096 : first + 3 * 4096])
        store.read([Read("aligned", 2 * 4096, parts)])
        assert b"".join(parts) == data[2 * 4096 :]

    def test_more_buffers_than_one_system_call_takes(self, store: Store) -> None:
        """Linux takes 1,024 a call."""
        sizes = [1 + i % 7 for i in range(3000)]
        data = pattern(sum(sizes))
        store.write("many", [data[i : i + 5] for i in range(0, len(data), 5)])
        assert b"".join(fetch(store, "many", 0, *sizes)) == data

    @_PROPERTY
    @given(size=st.integers(1, 20_000), draw=st.data())
    def test_any_range_into_any_buffers(self, store: Store, size: int, draw: st.DataObject) -> None:
        """Whatever the range and however it is cut."""
        begin, end = sorted(draw.draw(st.lists(st.integers(0, size), min_size=2, max_size=2), label="range"))
        cuts = draw.draw(st.lists(st.integers(begin, end), max_size=8), label="cuts")
        edges = [begin, *sorted(cuts), end]
        data = pattern(size, seed=size)
        store.delete(["any"])  # of the example before, where ``replaces`` is false
        store.write("any", [data])
        got = fetch(store, "any", begin, *(after - before for before, after in pairwise(edges)))
        assert b"".join(got) == data[begin:end]

    def test_batch_fills_the_rest_and_names_the_missing(self, store: Store) -> None:
        """A failed read leaves its batch alone."""
        store.write("first", [b"1" * 5000])
        store.write("last", [b"2" * 5000])
        out = [bytearray(5000) for _ in range(3)]
        reads = [Read(key, 0, (memoryview(part),)) for key, part in zip(["first", "absent", "last"], out, strict=True)]
        with pytest.raises(ReadFailures) as caught:
            store.read(reads)
        assert set(caught.value.failures) == {1}
        assert isinstance(caught.value.failures[1], ChunkMissing)
        assert "absent" in str(caught.value)
        assert [bytes(out[0]), bytes(out[2])] == [b"1" * 5000, b"2" * 5000]

    @pytest.mark.parametrize(
        ("size", "offset", "wanted"), [(5000, 4990, 11), (8192, 4096, 4097), (8192, 20_000, 1), (10, 0, 8192)]
    )
    def test_reading_past_the_end_is_truncated(self, store: Store, size: int, offset: int, wanted: int) -> None:
        """Ends inside, at the edge of, and before the range."""
        store.write("short", [pattern(size)])
        with pytest.raises(ChunkTruncated, match="short"):
            fetch(store, "short", offset, wanted)

    def test_empty_batches_do_nothing(self, store: Store) -> None:
        """Nothing in, nothing done."""
        store.read([])
        store.write_many([])
        store.delete([])
        assert store.exists([]) == 0
        assert list(store.keys()) == []

    def test_exists_counts_up_to_the_first_gap(self, store: Store) -> None:
        """The longest present prefix."""
        keys = [f"key-{i}" for i in range(6)]
        store.write_many((key, [b"x"]) for key in keys if key != "key-4")
        assert store.exists(keys) == 4
        assert store.exists(keys[:3]) == 3
        assert store.exists(["absent", *keys]) == 0

    def test_delete_removes_and_forgives(self, store: Store) -> None:
        """What is deleted is missing, and may come again; what is missing may be deleted."""
        store.write_many([("gone", [b"1"]), ("kept", [b"2"])])
        store.delete(["gone", "never-there"])
        assert store.exists(["gone"]) == 0
        assert sorted(store.keys()) == ["kept"]
        with pytest.raises(ChunkMissing, match="gone"):
            fetch(store, "gone", 0, 1)
        store.write("gone", [b"again"])
        assert fetch(store, "gone", 0, 5) == [b"again"]

    def test_size_is_the_objects_length(self, store: Store) -> None:
        """Where the store tells sizes at all."""
        store.write("sized", [pattern(4097)])
        try:
            assert store.size("sized") == 4097
        except NotImplementedError:
            pytest.skip(f"{store.name} stores don't tell sizes")
        with pytest.raises(ChunkMissing, match="absent"):
            store.size("absent")

    def test_second_write_wins_or_loses_wholly(self, store: Store) -> None:
        """As ``replaces`` says; where it wins, nothing of the longer object stays."""
        store.write("twice", [pattern(9000)])
        assert fetch(store, "twice", 0, 1) == [pattern(9000)[:1]]
        store.write("twice", [b"new"])
        if not store.replaces:
            assert fetch(store, "twice", 0, 9000) == [pattern(9000)]
            store.delete(["twice"])
            store.write("twice", [b"new"])
        assert fetch(store, "twice", 0, 3) == [b"new"]
        with pytest.raises(ChunkTruncated):
            fetch(store, "twice", 0, 4)

    def test_chunks_come_back_a_layer_an_object(self, store: Store) -> None:
        """``layout=layer``: whole, by layers, in one batch; a lost layer is named, and deleting leaves nothing."""
        geometry = KVGeometry(layers=3, block_tokens=16, block_bytes=3000, chunk_blocks=2, dtype="float32")
        layered, layout = Layered(store, geometry), Layout(geometry)
        chunks = {key: pattern(layout.total_bytes, seed) for seed, key in enumerate(("a" * 32, "b" * 32))}
        layered.write_many((key, [data[:7], data[7:]]) for key, data in chunks.items())
        assert layered.exists([*chunks]) == len(chunks)
        assert [fetch(layered, key, 0, len(data)) for key, data in chunks.items()] == [[data] for data in chunks.values()]
        middle = [bytearray(layout.layer_stride) for _ in chunks]
        layered.read([Read(key, layout.offset(1), (memoryview(out),)) for key, out in zip(chunks, middle, strict=True)])
        assert middle == [data[layout.offset(1) : layout.offset(2)] for data in chunks.values()]
        store.delete([layered.names("a" * 32)[2]])
        with pytest.raises(ChunkMissing, match=r"a\.l2"):
            fetch(layered, "a" * 32, 0, layout.total_bytes)
        assert fetch(layered, "a" * 32, 0, layout.offset(2)) == [chunks["a" * 32][: layout.offset(2)]]
        layered.delete(chunks)
        assert list(store.keys()) == []

    def test_evicting_loses_nothing_and_says_the_truth(self, store: Store) -> None:
        """True means that nothing is left in the page cache."""
        store.write("cold", [pattern(50_000)])
        if store.evict_from_os_cache(["cold"]):
            assert store.cached_fraction(["cold"]) in (0.0, None)
        assert fetch(store, "cold", 0, 50_000) == [pattern(50_000)]
        fraction = store.cached_fraction(["cold"])
        assert fraction is None or 0 <= fraction <= 1

    def test_errors_are_one_sentence_with_the_key(self, store: Store) -> None:
        """Users see these messages as they are."""
        with pytest.raises(StoreError) as caught:
            fetch(store, "no-such-object", 0, 1)
        assert "no-such-object" in str(caught.value)
        assert "\n" not in str(caught.value)
