"""``redis://``, ``rediss://`` and ``redis+cluster://`` against real servers: the conformance suite, and what it does not ask."""

import asyncio
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
import redis
from redis_running import PASSWORD, PASSWORD_QUOTED, Server

from harness.core.errors import ChunkMissing, ChunkTruncated, ReadFailures, UsageError
from harness.stores import open_store
from harness.stores.base import Read, Store
from harness.stores.redis.protocol import MOST_WINDOW
from harness.testing.stores import StoreTests, fetch, pattern


def fresh(url: str) -> str:
    """The URL with a prefix that no other test has."""
    return f"{url}{'&' if '?' in url else '?'}prefix=test-{uuid4().hex}:"


class TestRedis(StoreTests):
    @pytest.fixture
    def url(self, server: Server) -> str:
        return fresh(server.url)


class TestRedisOverTls(StoreTests):
    @pytest.fixture
    def url(self, tls_url: str) -> str:
        return fresh(tls_url)


class TestRedisCluster(StoreTests):
    @pytest.fixture
    def url(self, cluster: list[Server]) -> str:
        return fresh(f"redis+cluster://127.0.0.1:{cluster[1].port}")


@pytest.fixture
def store(server: Server) -> Iterator[Store]:
    with open_store(fresh(server.url)) as store:
        yield store
        store.delete(list(store.keys()))


@pytest.fixture
def info(server: Server) -> Iterator[Callable[[str], int]]:
    """``info("total_net_output_bytes")``: a number of the server's INFO."""
    with redis.Redis(port=server.port) as client:
        yield lambda name: int(client.info("all")[name])


def reads_of(key: str, length: int, count: int) -> tuple[list[bytearray], list[Read]]:
    """``count`` neighbouring ranges of one object, and their memory."""
    out = [bytearray(length) for _ in range(count)]
    return out, [Read(key, position * length, (memoryview(part),)) for position, part in enumerate(out)]


def test_a_range_does_not_transfer_the_object(store: Store, info: Callable[[str], int]) -> None:
    store.write("large", [pattern(4 << 20)])
    before = info("total_net_output_bytes")
    assert fetch(store, "large", 1 << 20, 10_000) == [pattern(4 << 20)[1 << 20 :][:10_000]]
    assert info("total_net_output_bytes") - before < 40_000  # INFO's own text is in it


def test_a_batch_is_one_round_trip(store: Store, info: Callable[[str], int]) -> None:
    keys = [f"key-{number}" for number in range(32)]
    store.write_many((key, [b"x" * 100]) for key in keys)
    store.exists(keys)  # connects
    before = info("total_reads_processed")
    assert store.exists(keys) == 32
    store.read([Read(key, 0, (memoryview(bytearray(100)),)) for key in keys])
    assert info("total_reads_processed") - before <= 4  # exists, read, and INFO twice at most


@pytest.mark.parametrize("asynchronous", [False, True])
def test_batches_beyond_the_window_arrive_whole(store: Store, asynchronous: bool) -> None:
    length = MOST_WINDOW // 3
    store.write("huge", [pattern(6 * length)])
    out, reads = reads_of("huge", length, 6)
    if asynchronous:
        asyncio.run(store.aread(reads))
    else:
        store.read(reads)
    assert b"".join(out) == pattern(6 * length)


def test_reading_makes_no_copy_of_the_object(store: Store) -> None:
    size = 8 << 20
    store.write("large", [pattern(size)])
    out, reads = reads_of("large", size, 1)
    tracemalloc.start()
    try:
        store.read(reads)
        asyncio.run(store.aread(reads))
        assert tracemalloc.get_traced_memory()[1] < size / 4
    finally:
        tracemalloc.stop()
    assert out[0] == pattern(size)


def test_an_empty_object_is_there_but_too_short(store: Store) -> None:
    store.write("empty", [])
    assert store.exists(["empty"]) == 1
    assert fetch(store, "empty", 0, 0) == [b""]
    with pytest.raises(ChunkTruncated, match="ends after 0 bytes, 1 were asked for"):
        fetch(store, "empty", 0, 1)
    with pytest.raises(ChunkMissing):
        fetch(store, "absent", 0, 0)


def test_more_threads_than_connections_wait_for_one(server: Server) -> None:
    with open_store(fresh(f"{server.url}?connections=2")) as store, ThreadPoolExecutor(16) as pool:
        store.write("shared", [pattern(200_000)])
        assert set(pool.map(lambda _: fetch(store, "shared", 0, 200_000)[0], range(64))) == {pattern(200_000)}
        store.delete(["shared"])


def test_more_tasks_than_connections_wait_for_one(server: Server) -> None:
    with open_store(fresh(f"{server.url}?connections=2")) as store:
        store.write("shared", [pattern(50_000)])
        batches = [reads_of("shared", 10_000, 5) for _ in range(20)]

        async def all_of_them() -> None:
            await asyncio.gather(*(store.aread(reads) for _, reads in batches))

        asyncio.run(all_of_them())
        assert [b"".join(out) for out, _ in batches] == [pattern(50_000)] * 20
        store.delete(["shared"])


def test_several_loops_share_a_store_and_leave_no_connection(store: Store, info: Callable[[str], int]) -> None:
    store.write("shared", [pattern(100_000)])
    before = info("connected_clients")

    def loop(_: int) -> bytes:
        out, reads = reads_of("shared", 10_000, 10)
        asyncio.run(store.aread(reads))
        return b"".join(out)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(loop, range(8))) == [pattern(100_000)] * 8
    assert info("connected_clients") == before


def test_closing_ends_the_connections_of_a_loop_that_runs_on(server: Server, info: Callable[[str], int]) -> None:
    before = info("connected_clients")

    async def read_and_close() -> None:
        with open_store(fresh(server.url)) as store:
            store.write("key", [b"data"])
            await store.aread([Read("key", 0, (memoryview(bytearray(4)),))])
            store.delete(["key"])
        for _ in range(100):
            if info("connected_clients") == before:
                break
            await asyncio.sleep(0.01)

    asyncio.run(read_and_close())
    assert info("connected_clients") == before


def test_a_cancelled_read_touches_nothing_any_more(store: Store) -> None:
    store.write("large", [pattern(16 << 20)])

    async def cancel_half_way() -> bytes:
        out, reads = reads_of("large", 16 << 20, 1)
        task = asyncio.ensure_future(store.aread(reads))
        while not any(out[0][:: 1 << 20]):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        seen = bytes(out[0])
        again, reads = reads_of("large", 1000, 1)
        await store.aread(reads)
        assert again[0] == pattern(16 << 20)[:1000]
        assert out[0] == seen
        return seen

    assert asyncio.run(cancel_half_way()) != pattern(16 << 20)


def test_a_prefix_keeps_other_keys_away(server: Server) -> None:
    with open_store(f"{server.url}?prefix=a*b%5Bc%5D:") as mine, open_store(fresh(server.url)) as other:
        other.write("theirs", [b"1"])
        mine.write("ours", [b"2"])
        server.say("SET", "a-and-b[c]:glob", "x")
        server.say("SET", "a*b[c]:no key of ours", "x")
        assert list(mine.keys()) == ["ours"]
        assert list(other.keys()) == ["theirs"]
        mine.delete(["ours", "theirs"])
        assert list(other.keys()) == ["theirs"]
        other.delete(["theirs"])


def test_a_slot_that_moved_is_found_again(cluster: list[Server]) -> None:
    """The first store's map of the cluster is out of date when it reads."""
    url = fresh(f"redis+cluster://127.0.0.1:{cluster[0].port}")
    with redis.RedisCluster("127.0.0.1", cluster[0].port) as client, open_store(url) as old:
        prefix = url.partition("prefix=")[2]
        slot = client.keyslot(f"{prefix}moves")
        owner = client.get_node_from_key(f"{prefix}moves").port
        nodes = sorted(cluster, key=lambda node: node.port == owner)  # the owner last: it may not lose it to a stranger
        new = client.cluster_myid(client.get_node("127.0.0.1", nodes[0].port)).decode()
        for node in nodes:
            node.say("CLUSTER", "SETSLOT", str(slot), "NODE", new)
        with open_store(url) as store:
            store.write("moves", [pattern(10_000)])
        assert fetch(old, "moves", 10, 500) == [pattern(10_000)[10:510]]
        assert old.exists(["moves"]) == 1
        old.delete(["moves"])


def test_a_cluster_can_be_shaped(cluster: list[Server]) -> None:
    url = fresh(f"shaped+redis+cluster://127.0.0.1:{cluster[0].port}?latency_ms=1&timeout_s=3")
    with open_store(url) as store:
        store.write("shaped", [pattern(1000)])
        assert fetch(store, "shaped", 0, 1000) == [pattern(1000)]
        store.delete(["shaped"])
    with pytest.raises(UsageError, match=r"unknown option of store 'shaped\+redis\+cluster' 'ca'"):
        open_store(f"{url}&ca=/x")


def test_secrets_are_not_in_what_a_store_shows(tls_url: str) -> None:
    with open_store(tls_url) as store:
        shown = f"{store.url} {store.options!r} {vars(store)!r}"
        with pytest.raises(ReadFailures) as caught:
            store.read([Read("absent", 0, (memoryview(bytearray(1)),))])
    for secret in (PASSWORD, PASSWORD_QUOTED, "hunter2"):
        assert secret not in shown
        assert secret not in str(caught.value)
