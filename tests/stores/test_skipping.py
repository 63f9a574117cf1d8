"""A store that keeps failing is left alone for a while, and tried again by one call."""

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest

from harness.core.errors import ChunkMissing, DeadlineMissed, ReadFailures, StoreError, StoreUnavailable
from harness.stores.base import Read, Store, open_store
from harness.stores.skipping import LONGEST_S, MOST_FAILED, SKIPPED_S, Skipping
from harness.stores.wrapper import Wrapper


class Ill(Wrapper):
    """Calls fail with ``error`` while there is one."""

    error: Exception | None = None
    calls = 0

    def _answer(self) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error

    def exists(self, keys: Sequence[str]) -> int:
        self._answer()
        return len(keys)

    def read(self, reads: Sequence[Read]) -> None:
        self._answer()

    async def aread(self, reads: Sequence[Read]) -> None:
        self._answer()

    def write(self, key: str, parts: object) -> None:
        self._answer()


@pytest.fixture
def ill(tmp_path: object) -> Iterator[Ill]:
    with open_store(f"file://{tmp_path}/kv") as store:
        yield Ill(store)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(ill: Ill, clock: Clock) -> Skipping:
    return Skipping(ill, clock)


def read(store: Store, load: float = float("inf"), call: str = "read") -> None:
    reads = [Read("key", 0, (memoryview(bytearray(1)),), load)]
    if call == "read":
        store.read(reads)
    else:
        asyncio.run(store.aread(reads))


def fail(store: Store, times: int = MOST_FAILED) -> None:
    for number in range(times):
        with pytest.raises(StoreError):
            read(store, 1e6 + number)


LOST = ReadFailures({0: DeadlineMissed("object key was not read")})


@pytest.mark.parametrize("call", ["read", "aread", "exists", "write"])
def test_after_failures_in_a_row_no_call_reaches_it_until_it_was_left_alone(
    store: Skipping, ill: Ill, clock: Clock, call: str
) -> None:
    def use() -> None:
        if call == "exists":
            store.exists(["key"])
        elif call == "write":
            store.write("key", [b"x"])
        else:
            read(store, call=call)

    ill.error = LOST
    fail(store)
    ill.error, before = None, ill.calls
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"kept failing and is skipped for another 5\.0 s"):
            use()
    assert (ill.calls, store.skipping, store.skips) == (before, True, 1)
    clock.now += SKIPPED_S
    use()
    assert (ill.calls, store.skipping, store.skips) == (before + 1, False, 1)
    use()


def test_loads_that_had_no_time_say_nothing_of_the_store(store: Skipping, ill: Ill, clock: Clock) -> None:
    ill.error = LOST
    for number in range(2 * MOST_FAILED):
        with pytest.raises(ReadFailures):
            read(store, clock.now + 0.001 * (number + 1))
    assert not store.skipping
    fail(store)
    clock.now += SKIPPED_S
    with pytest.raises(ReadFailures):  # one that tries the store neither ends the pause nor makes it longer
        read(store, clock.now + 0.001)
    assert store.skipping
    ill.error = None
    read(store, clock.now + 30)
    assert not store.skipping


def test_a_load_that_had_time_counts_once_it_has_run_out(store: Skipping, ill: Ill, clock: Clock) -> None:
    ends = clock.now + 30
    for number in range(MOST_FAILED):
        read(store, ends + number)
    clock.now, ill.error = ends, LOST
    for number in range(MOST_FAILED):
        with pytest.raises(ReadFailures):
            read(store, ends + number)
    assert store.skipping


def test_each_try_that_fails_doubles_the_pause(store: Skipping, ill: Ill, clock: Clock) -> None:
    ill.error = StoreUnavailable("no answer")
    fail(store)
    pause = SKIPPED_S
    for _ in range(6):
        clock.now += pause - 0.1
        with pytest.raises(StoreUnavailable, match="skipped for another"):
            read(store)
        clock.now += 0.1
        with pytest.raises(StoreUnavailable, match="no answer"):
            read(store)
        pause = min(2 * pause, LONGEST_S)
    assert pause == LONGEST_S
    clock.now += pause
    ill.error = None
    read(store)
    ill.error = StoreUnavailable("no answer")
    fail(store)
    clock.now += SKIPPED_S  # from the beginning
    with pytest.raises(StoreUnavailable, match="no answer"):
        read(store)


def test_all_reads_of_a_load_count_once(store: Skipping, ill: Ill) -> None:
    """One slow load of many chunks says little; and where the first chunks of each load still come, the load has failed."""
    for load in range(MOST_FAILED):
        ill.error = None
        read(store, load)
        ill.error = LOST
        for _ in range(10):
            assert not store.skipping
            with pytest.raises(ReadFailures):
                read(store, load)
            if store.skipping:
                break
    assert store.skipping


def test_many_loads_that_go_on_at_once_and_fail_have_it_skipped(store: Skipping, ill: Ill) -> None:
    for load in range(8):
        read(store, load)
    ill.error = LOST
    for load in (0, 2, 1):  # in any order; those that began later may be under way still
        assert not store.skipping
        with pytest.raises(ReadFailures):
            read(store, load)
    assert store.skipping


def test_a_load_that_succeeds_begins_the_count_anew(store: Skipping, ill: Ill) -> None:
    for _ in range(3):
        ill.error = LOST
        fail(store, MOST_FAILED - 1)
        ill.error = None
        read(store, 7.0)
    assert not store.skipping


@pytest.mark.parametrize("error", [ReadFailures({0: ChunkMissing("no object")}), ChunkMissing("no object")])
def test_what_is_missing_says_nothing_against_a_store(store: Skipping, ill: Ill, error: StoreError) -> None:
    ill.error = error
    fail(store, 10)
    assert not store.skipping


def test_a_full_store_still_serves(store: Skipping, ill: Ill) -> None:
    ill.error = StoreUnavailable("full")
    for _ in range(10):
        with pytest.raises(StoreUnavailable, match="full"):
            store.write("key", [b"x"])
    assert not store.skipping


@pytest.mark.parametrize("error", [RuntimeError("a bug"), StoreUnavailable("no answer")])
def test_one_call_at_a_time_tries_it_however_that_ends(store: Skipping, ill: Ill, clock: Clock, error: Exception) -> None:
    ill.error = LOST
    fail(store)
    clock.now += SKIPPED_S
    inside, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        inside.set()
        go_on.wait(20)
        raise error

    ill._answer = slow  # type: ignore[method-assign]

    def try_it() -> None:
        with pytest.raises(type(error)):
            read(store)

    trying = threading.Thread(target=try_it)
    trying.start()
    assert inside.wait(20)
    with pytest.raises(StoreUnavailable, match="skipped"):
        read(store)
    go_on.set()
    trying.join(20)
    del ill._answer
    ill.error = None
    clock.now += LONGEST_S
    read(store)
    assert not store.skipping


def test_it_is_said_once(store: Skipping, ill: Ill, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    ill.error = StoreUnavailable("no answer from redis")
    fail(store, 10)
    clock.now += SKIPPED_S
    fail(store, 10)
    clock.now += LONGEST_S
    ill.error = None
    read(store)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert messages[0].startswith("3 loads or lookups in a row failed, so file:///")
    assert messages[0].endswith("is skipped for 5 s and tried again then; the last: no answer from redis")
    assert messages[1].endswith("works again")
