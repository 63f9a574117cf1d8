"""``shaped+``: the conformance suite over two stores, and its timing on a clock of its own."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np
import pytest

from harness.core.errors import ChunkMissing, ReadFailures, UsageError
from harness.stores import open_store
from harness.stores.base import Buffer, Read, check_store
from harness.stores.files.disk import DiskStore
from harness.stores.files.memory import MemoryStore
from harness.stores.shaped import ShapedOptions, ShapedStore
from harness.testing.stores import StoreTests, fetch


class TestShapedDisk(StoreTests):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"shaped+file://{tmp_path}/kv?latency_ms=0.1&stream_mb_s=2000&jitter=0.5&fsync=0"


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="this machine has no /dev/shm")
class TestShapedMemory(StoreTests):
    @pytest.fixture
    def url(self, request: pytest.FixtureRequest) -> str:
        name = f"test-{uuid4().hex}"
        place = MemoryStore.shared_memory / f"ttft-{name}"
        request.addfinalizer(lambda: place.rmdir() if place.exists() else None)
        return f"shaped+mem://{name}?total_mb_s=2000&shape_writes=1"


class Clock:
    """Stands in for ``time``: sleeping is what makes time pass, and every sleep is kept."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        self._lock = threading.Lock()

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept.append(seconds)
            self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("harness.stores.shaped.time", clock)
    return clock


@pytest.fixture
def shape(tmp_path: Path) -> Callable[[str], ShapedStore]:
    def opened(query: str) -> ShapedStore:
        store = open_store(f"shaped+file://{tmp_path}/kv?{query}")
        assert isinstance(store, ShapedStore)
        store.inner.write_many([("one", [b"1" * 300_000]), ("two", [b"2" * 300_000])])
        return store

    return opened


def into(size: int) -> tuple[memoryview, ...]:
    return (memoryview(bytearray(size)),)


class TestTiming:
    def test_a_batch_is_one_round_trip_and_all_its_bytes(self, clock: Clock, shape: Callable[[str], ShapedStore]) -> None:
        shape("latency_ms=2&stream_mb_s=300").read([Read("one", 0, into(300_000)), Read("two", 0, into(150_000))])
        assert clock.now - 100.0 == pytest.approx(0.002 + 450_000 / 300e6)

    def test_exists_is_one_round_trip_for_all_keys(self, clock: Clock, shape: Callable[[str], ShapedStore]) -> None:
        assert shape("latency_ms=2&stream_mb_s=300").exists(["one", "two", "three"]) == 2
        assert clock.now - 100.0 == pytest.approx(0.002)

    def test_the_real_read_counts_towards_the_time(
        self, clock: Clock, shape: Callable[[str], ShapedStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = DiskStore.read

        def slow(store: DiskStore, reads: Sequence[Read]) -> None:
            real(store, reads)
            clock.now += 0.005

        monkeypatch.setattr(DiskStore, "read", slow)
        store = shape("latency_ms=8")
        store.read([Read("one", 0, into(10))])
        assert clock.slept == [pytest.approx(0.003)]
        store = shape("latency_ms=4")
        store.read([Read("one", 0, into(10))])
        assert len(clock.slept) == 1

    def test_a_failed_read_takes_its_time_and_fails_as_it_was(self, clock: Clock, shape: Callable[[str], ShapedStore]) -> None:
        with pytest.raises(ReadFailures) as caught:
            shape("latency_ms=3").read([Read("one", 0, into(10)), Read("absent", 0, into(10))])
        assert isinstance(caught.value.failures[1], ChunkMissing)
        assert clock.now - 100.0 == pytest.approx(0.003)

    def test_total_bounds_a_single_call_too(self, clock: Clock, shape: Callable[[str], ShapedStore]) -> None:
        shape("total_mb_s=100&stream_mb_s=300").read([Read("one", 0, into(300_000))])
        assert clock.now - 100.0 == pytest.approx(0.003)

    def test_writes_are_slow_only_on_demand(self, clock: Clock, shape: Callable[[str], ShapedStore]) -> None:
        data: list[Buffer] = [b"x" * 1000, bytearray(2000)]
        store = shape("latency_ms=1&stream_mb_s=1")
        store.write("fast", data)
        store.write_many([("fast-too", data)])
        assert clock.slept == []
        store = shape("latency_ms=1&stream_mb_s=1&shape_writes=1")
        store.write("slow", data)
        store.write_many([("slow-too", data), ("slow-as-well", data)])
        assert clock.slept == [pytest.approx(0.001 + 0.003)] * 3

    def test_without_settings_nothing_is_slept(self, clock: Clock, shape: Callable[[str], ShapedStore]) -> None:
        store = shape("")
        store.read([Read("one", 0, into(300_000))])
        store.exists(["one"])
        assert clock.slept == []


class TestOverlap:
    """On the real clock, with margins that only a wrong order of events can break."""

    def test_threads_wait_at_the_same_time(self, shape: Callable[[str], ShapedStore]) -> None:
        store = shape("latency_ms=400")
        begin = time.perf_counter()
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda i: fetch(store, "one", i, 10), range(16)))
        assert 0.4 <= time.perf_counter() - begin < 16 * 0.4 / 2  # seconds of noise do not reach it

    def test_areads_wait_at_the_same_time(self, shape: Callable[[str], ShapedStore]) -> None:
        store = shape("latency_ms=400")

        async def all_of_them() -> None:
            await asyncio.gather(*(store.aread([Read("one", i, into(10))]) for i in range(16)))

        begin = time.perf_counter()
        asyncio.run(all_of_them())
        assert 0.4 <= time.perf_counter() - begin < 16 * 0.4 / 2  # seconds of noise do not reach it

    def test_an_aread_never_blocks_the_event_loop(
        self, shape: Callable[[str], ShapedStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = shape("latency_ms=5")
        monkeypatch.setattr("harness.stores.shaped.time", SimpleNamespace(perf_counter=time.perf_counter))
        begin = time.perf_counter()
        asyncio.run(store.aread([Read("one", 0, into(10))]))  # time.sleep would not be there
        assert time.perf_counter() - begin >= 0.005

    def test_the_total_is_shared_by_threads(self, shape: Callable[[str], ShapedStore]) -> None:
        store = shape("total_mb_s=20")
        begin = time.perf_counter()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: fetch(store, "one", 0, 300_000), range(4)))
        assert time.perf_counter() - begin >= 4 * 300_000 / 20e6


class TestJitter:
    def latencies(self, clock: Clock, store: ShapedStore, offsets: Sequence[int]) -> list[float]:
        for offset in offsets:
            store.read([Read("one", offset, into(1))])
        taken, clock.slept = clock.slept, []
        return taken

    def test_the_call_decides_not_the_order(self, clock: Clock, shape: Callable[[str], ShapedStore]) -> None:
        store = shape("latency_ms=2&jitter=0.3&seed=7")
        forth = self.latencies(clock, store, range(50))
        back = self.latencies(clock, shape("latency_ms=2&jitter=0.3&seed=7"), range(49, -1, -1))
        assert forth == pytest.approx(back[::-1])
        assert len(set(forth)) == 50

    def test_another_seed_gives_other_latencies(self, clock: Clock, shape: Callable[[str], ShapedStore]) -> None:
        first = self.latencies(clock, shape("latency_ms=2&jitter=0.3&seed=1"), range(10))
        second = self.latencies(clock, shape("latency_ms=2&jitter=0.3&seed=2"), range(10))
        assert all(a != pytest.approx(b, rel=1e-9) for a, b in zip(first, second, strict=True))

    def test_mean_and_spread_are_as_asked(self, clock: Clock, shape: Callable[[str], ShapedStore]) -> None:
        taken = np.array(self.latencies(clock, shape("latency_ms=2&jitter=0.3"), range(4000)))
        assert taken.mean() == pytest.approx(0.002, rel=0.02)
        assert taken.std() / taken.mean() == pytest.approx(0.3, rel=0.05)
        assert np.log(taken).std() == pytest.approx(np.sqrt(np.log1p(0.3**2)), rel=0.05)


class TestStalls:
    """slow_share and slow_ms: a store that stalls now and then."""

    OPTIONS = "latency_ms=2&slow_share=0.1&slow_ms=300"

    def slow(self, clock: Clock, store: ShapedStore, offsets: Sequence[int]) -> list[bool]:
        for offset in offsets:
            store.read([Read("one", offset, into(1))])
        taken, clock.slept = clock.slept, []
        assert all(seconds == pytest.approx(0.002) or seconds == pytest.approx(0.302) for seconds in taken)
        return [seconds > 0.1 for seconds in taken]

    def test_so_many_calls_are_slow_and_by_so_much(self, clock: Clock, shape: Callable[[str], ShapedStore]) -> None:
        assert 0.08 < np.mean(self.slow(clock, shape(self.OPTIONS), range(4000))) < 0.12

    def test_the_call_decides_not_the_order(self, clock: Clock, shape: Callable[[str], ShapedStore]) -> None:
        forth = self.slow(clock, shape(self.OPTIONS), range(200))
        assert self.slow(clock, shape(self.OPTIONS), range(199, -1, -1)) == forth[::-1]
        assert self.slow(clock, shape(f"{self.OPTIONS}&seed=1"), range(200)) != forth

    def test_no_key_is_slow_for_ever(self, clock: Clock, shape: Callable[[str], ShapedStore]) -> None:
        store = shape(self.OPTIONS)
        assert 0.07 < np.mean(self.slow(clock, store, [5] * 2000)) < 0.13

    def test_jitter_stays_what_it_was(self, clock: Clock, shape: Callable[[str], ShapedStore]) -> None:
        for options in ("latency_ms=2&jitter=0.3&seed=7", "latency_ms=2&jitter=0.3&seed=7&slow_share=1e-9&slow_ms=1"):
            shape(options).read([Read("one", 0, into(1))])
        assert clock.slept[0] == pytest.approx(clock.slept[1])

    @pytest.mark.parametrize("options", ["slow_share=0.1", "slow_ms=3", "slow_share=0&slow_ms=3"])
    def test_one_without_the_other_is_refused(self, options: str) -> None:
        with pytest.raises(UsageError, match="makes no call slow; give both, or neither"):
            check_store(f"shaped+mem://kv?{options}")

    @pytest.mark.parametrize("options", ["slow_share=1.1&slow_ms=1", "slow_share=-1&slow_ms=1", "slow_share=0.1&slow_ms=inf"])
    def test_values_out_of_range_are_refused(self, options: str) -> None:
        with pytest.raises(UsageError, match="is invalid"):
            check_store(f"shaped+mem://kv?{options}")


class TestOpening:
    def test_the_rest_of_the_query_goes_to_the_wrapped_store(self, tmp_path: Path) -> None:
        store = open_store(f"shaped+file://{tmp_path}/a%20b?latency_ms=1&fsync=1")
        assert isinstance(store, ShapedStore)
        assert isinstance(store.inner, DiskStore)
        assert store.inner.options.fsync is True
        assert store.inner.root == tmp_path / "a b"
        assert store.options.latency_ms == 1.0

    def test_url_is_the_whole_one(self, tmp_path: Path) -> None:
        url = f"shaped+file://{tmp_path}/kv?latency_ms=1"
        assert open_store(url).url == url

    def test_wrappers_nest(self, clock: Clock, tmp_path: Path) -> None:
        store = open_store(f"shaped+shaped+file://{tmp_path}/kv?latency_ms=1")
        store.exists(["a"])
        assert clock.slept == [pytest.approx(0.001)]

    @pytest.mark.parametrize("name", ["latency_ms", "stream_mb_s", "total_mb_s", "jitter"])
    @pytest.mark.parametrize("value", ["-1", "nan", "inf", "fast", "", "1e308"])
    def test_bad_numbers_are_refused(self, tmp_path: Path, name: str, value: str) -> None:
        with pytest.raises(UsageError, match=f"store 'shaped': {name}='{value}' is invalid"):
            open_store(f"shaped+file://{tmp_path}/kv?{name}={value}")

    @pytest.mark.parametrize("name", ["stream_mb_s", "total_mb_s"])
    def test_a_rate_that_takes_years_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(UsageError, match=rf"{name}='1e-320' is invalid: it must be 0, for no bound, or at least 0.001"):
            open_store(f"shaped+file://{tmp_path}/kv?{name}=1e-320")

    def test_unknown_option_lists_those_of_both_stores(self, tmp_path: Path) -> None:
        with pytest.raises(
            UsageError, match=r"'shaped\+file' 'latency' \(did you mean 'latency_ms'\?\); known: direct, fsync, jitter"
        ):
            open_store(f"shaped+file://{tmp_path}/kv?latency=1")

    def test_something_must_be_wrapped(self) -> None:
        with pytest.raises(UsageError, match=r"wraps nothing; write for instance shaped\+file:///tmp/kv"):
            open_store("shaped:///tmp/kv")

    def test_what_is_wrapped_must_be_known(self) -> None:
        with pytest.raises(UsageError, match=r"unknown store 'fil' \(did you mean 'file'\?\)"):
            open_store("shaped+fil:///tmp/kv")


def test_everything_else_is_the_wrapped_stores(shape: Callable[[str], ShapedStore]) -> None:
    store = shape("latency_ms=1000")
    assert sorted(store.keys()) == ["one", "two"]
    assert store.size("one") == 300_000
    assert store.cached_fraction(["one"]) == store.inner.cached_fraction(["one"])
    assert store.evict_from_os_cache(["one"]) == store.inner.evict_from_os_cache(["one"])
    store.fill_os_cache(["one"])
    assert store.cached_fraction(["one"]) == store.inner.cached_fraction(["one"]) == 1.0
    store.delete(["one"])
    assert list(store.keys()) == ["two"]


def test_who_wins_a_second_write_is_the_wrapped_stores(tmp_path: Path) -> None:
    wrapped = open_store(f"file://{tmp_path}")
    wrapped.replaces = False
    url = urlsplit(f"shaped+file://{tmp_path}")
    assert not ShapedStore(url, ShapedOptions(), wrapped).replaces
