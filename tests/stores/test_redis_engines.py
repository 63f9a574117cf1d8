"""Engines over a Redis server: right bytes with every way of reading, and chunks that count as lost when it dies."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from redis_running import Server, redis_server

from harness.connector.settings import parse_arm
from harness.core.spans import Recorder
from harness.engines.base import Engine
from harness.stores import open_store
from harness.testing.small_kv import WHOLE_PAGES, SmallKV

ARMS = [
    "chunkwise:pool=0",
    "chunkwise:pool=4,batch=2",
    "chunkwise:batch=8,staged=1",
    "layerwise:depth=2,readers=3",
    "layerwise:depth=2,loops=1",
    "layerwise:depth=3,loops=2,batch=4,verify=1",
]

BLOCKS = (31, 0, 7, 6, 20, 3, 5, 1)


@pytest.fixture
def own() -> Iterator[Server]:
    with redis_server() as running:
        yield running


def engine_of(arm: str, kv: SmallKV) -> Engine:
    parsed = parse_arm(arm)
    return parsed.engine(kv.store, kv.cache, parsed.options, Recorder())


@pytest.mark.parametrize("arm", ARMS)
def test_chunks_are_loaded_and_count_as_lost_once_the_server_is_dead(own: Server, arm: str) -> None:
    with open_store(f"{own.url}?timeout_s=5") as store:
        kv = SmallKV(WHOLE_PAGES.build(), store)
        with closing(engine_of(arm, kv)) as engine:
            request = kv.request("a", 4, BLOCKS)
            assert kv.step(engine, [request]) == frozenset()
            own.process.kill()
            own.process.wait()
            assert kv.step(engine, [request], lost=request.chunks) == frozenset(BLOCKS)


@pytest.mark.parametrize("arm", ARMS)
def test_chunks_come_from_all_nodes_of_a_cluster(cluster: list[Server], arm: str) -> None:
    with open_store(f"redis+cluster://127.0.0.1:{cluster[0].port}?prefix={arm.replace('=', '-')}:") as store:
        kv = SmallKV(WHOLE_PAGES.build(), store)
        with closing(engine_of(arm, kv)) as engine:
            assert kv.step(engine, [kv.request("a", 4, BLOCKS), kv.request("b", 2, (9, 8, 12, 11))]) == frozenset()
        store.delete(list(store.keys()))
