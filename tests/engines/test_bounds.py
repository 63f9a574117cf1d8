"""The two bounding arms do nothing, and say what they are; all engines can be found by name."""

import pytest

from harness.connector.settings import parse_arm
from harness.core.errors import UsageError
from harness.core.options import describe_options
from harness.core.spans import Recorder
from harness.engines import ENGINES
from harness.engines.auto import Auto
from harness.engines.base import Engine
from harness.engines.chunkwise import Chunkwise
from harness.engines.deferred import Deferred
from harness.engines.floor import Floor
from harness.engines.hybrid import Hybrid
from harness.engines.layerwise import Layerwise
from harness.engines.recompute import Recompute
from harness.testing.small_kv import SmallKV
from harness.testing.watched_store import WatchedStore


def test_what_the_arms_are() -> None:
    rows = {engine: (engine.grants_hits, engine.loads_kv, engine.blocks_in_begin) for engine in ENGINES.all().values()}
    assert rows == {
        Auto: (True, True, False),
        Deferred: (True, True, False),
        Chunkwise: (True, True, True),
        Layerwise: (True, True, False),
        Hybrid: (True, True, False),
        Floor: (True, False, True),
        Recompute: (False, False, True),
    }


@pytest.mark.parametrize("bound", [Floor, Recompute])
def test_bounds_touch_neither_store_nor_cache(kv: SmallKV, bound: type[Engine]) -> None:
    recorder = Recorder()
    watched = WatchedStore(kv.store)
    engine = bound(watched, kv.cache, bound.Options(), recorder)
    request = kv.request("a", 2, (3, 4, 5, 6))
    for batch in ([], [request]):
        engine.begin_load(batch)
        for layer in range(kv.cache.geometry.layers):
            engine.wait_layer(layer)
        assert engine.end_load() == frozenset()
    engine.close()
    engine.close()
    kv.check_all()
    assert watched.calls == []
    assert recorder.spans == []


def test_engines_are_found_by_name() -> None:
    assert {name: cls.name for name, cls in ENGINES.all().items()} == {
        n: n for n in ("auto", "chunkwise", "deferred", "layerwise", "hybrid", "floor", "recompute")
    }


def test_an_unknown_engine_names_the_known_ones() -> None:
    with pytest.raises(
        UsageError, match=r"unknown engine 'layerwize' \(did you mean 'layerwise'\?\); known: auto, chunkwise, deferred, floor,"
    ):
        parse_arm("layerwize:depth=4")


def test_an_unknown_option_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown option of engine 'layerwise' 'dept' .*known: .*groups"):
        parse_arm("layerwise:dept=4")


def test_bounds_have_no_options() -> None:
    assert describe_options(Floor.Options) == describe_options(Recompute.Options) == []
