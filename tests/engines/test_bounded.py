"""Nothing of a load goes on for ever, or after it: deadlines, threads that can't start, closing."""

import threading
import time
from collections.abc import Sequence

import pytest
from gates import MakeEngine

from harness.connector.settings import parse_arm
from harness.core.errors import SetupError, UsageError
from harness.core.spans import Recorder
from harness.engines import readers
from harness.stores.base import Read, late
from harness.testing.engines import within
from harness.testing.small_kv import SmallKV
from harness.testing.watched_store import Call, WatchedStore

SPECS = [
    "chunkwise",
    "chunkwise:pool=3",
    "layerwise:readers=3",
    "layerwise:readers=3,loops=1",
    "chunkwise:pool=2,staged=1",
    "deferred",
]
THREADED = [
    "chunkwise:pool=3",
    "layerwise:readers=3",
    "layerwise:readers=3,loops=2",
    "chunkwise:pool=default",
    "deferred:readers=3",
]


class Slow(WatchedStore):
    """Reads of one key never come; they fail at their deadlines, as stores promise."""

    hangs = ""

    def read(self, reads: Sequence[Read]) -> None:
        self._hold(reads)
        super().read(reads)

    async def aread(self, reads: Sequence[Read]) -> None:
        self._hold(reads)
        await super().aread(reads)

    def _hold(self, reads: Sequence[Read]) -> None:
        for item in reads:
            if item.key == self.hangs or time.monotonic() >= item.deadline:
                time.sleep(max(0.0, item.deadline - time.monotonic()))
                raise late(item.key)


def with_options(spec: str, more: str) -> str:
    return f"{spec}{',' if ':' in spec else ':'}{more}"


@pytest.mark.parametrize("spec", SPECS)
def test_what_misses_the_deadline_is_a_miss_and_the_next_load_knows_nothing_of_it(
    kv: SmallKV, make: MakeEngine, spec: str
) -> None:
    slow = Slow(kv.store)
    engine = make(with_options(spec, "deadline_ms=300"), slow)
    request = kv.request("a", 1, (8, 3))
    slow.hangs = request.chunks[0]
    assert within(lambda: kv.step(engine, [request], request.chunks)) == {8, 3}
    slow.hangs = ""
    engine._fetcher._deadline_s = 60  # type: ignore[attr-defined]  # each load has its own, which a busy machine must not miss
    assert within(lambda: kv.step(engine, [kv.request("b", 1, (8, 3))])) == frozenset()


@pytest.mark.parametrize("spec", SPECS)
def test_all_reads_of_a_load_have_one_deadline(kv: SmallKV, make: MakeEngine, spec: str) -> None:
    """Or the time-outs of 64 chunks would add up."""
    watched = WatchedStore(kv.store)
    before = time.monotonic()
    kv.step(make(with_options(spec, "deadline_ms=5000"), watched), [kv.request("a", 5, range(10))])
    (deadline,) = {read.deadline for call in watched.calls for read in call.reads}
    assert before + 5 <= deadline <= time.monotonic() + 5


@pytest.mark.parametrize("spec", SPECS)
def test_there_is_a_deadline_unless_told_otherwise(kv: SmallKV, make: MakeEngine, spec: str) -> None:
    watched = WatchedStore(kv.store)
    kv.step(make(spec, watched), [kv.request("a", 1, (0, 1))])
    assert all(read.deadline < time.monotonic() + 30 for call in watched.calls for read in call.reads)


@pytest.mark.parametrize("text", ["deadline_ms=0", "deadline_ms=never"])
@pytest.mark.parametrize("engine", ["chunkwise", "layerwise"])
def test_a_bad_deadline_is_refused(engine: str, text: str) -> None:
    with pytest.raises(UsageError, match="deadline_ms"):
        parse_arm(f"{engine}:{text}")


@pytest.mark.parametrize("spec", THREADED)
@pytest.mark.parametrize("refused", [0, 2])
def test_threads_that_cannot_start_are_told_before_any_load(
    kv: SmallKV, spec: str, refused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one sentence, and those that did start end."""
    if (refused, spec) == (2, "layerwise:readers=3,loops=2"):
        refused = 1
    before = set(threading.enumerate())
    left = refused
    start = threading.Thread.start

    def starting(thread: threading.Thread) -> None:
        nonlocal left
        if left == 0:
            raise RuntimeError("can't start new thread")
        left -= 1
        start(thread)

    arm = parse_arm(spec)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", starting)
        with pytest.raises(SetupError, match=r"can.t start new thread.*ulimit -u"):
            arm.engine(kv.store, kv.cache, arm.options, Recorder())
    until = time.monotonic() + 20
    while not set(threading.enumerate()) <= before and time.monotonic() < until:
        time.sleep(0.01)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("spec", THREADED)
def test_a_load_starts_no_thread(kv: SmallKV, make: MakeEngine, spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that could not start would leave its call in the queue, to be carried out into blocks of the next request."""
    engine = make(spec)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert kv.step(engine, [kv.request("a", 8, range(16))]) == frozenset()


@pytest.mark.parametrize("spec", THREADED)
def test_closing_does_not_wait_for_a_read_that_hangs(kv: SmallKV, spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "CLOSING_S", 0.1)
    go_on = threading.Event()

    def hang(call: Call) -> None:
        go_on.wait(20)

    watched = WatchedStore(kv.store, hang)
    arm = parse_arm(spec)
    engine = arm.engine(watched, kv.cache, arm.options, Recorder())
    loading = threading.Thread(target=lambda: engine.begin_load([kv.request("a", 4, range(8))]), daemon=True)
    loading.start()
    assert watched.wait_for(lambda: watched.under_way > 0)
    begin = time.monotonic()
    within(engine.close)
    within(engine.close)
    assert time.monotonic() - begin < 10
    go_on.set()
    loading.join(20)
