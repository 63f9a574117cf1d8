"""A small cache over a store in a temporary folder, and engines over it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.connector.settings import parse_arm
from harness.core.spans import Recorder
from harness.engines.base import Engine
from harness.stores import open_store
from harness.stores.base import Store
from harness.testing.small_kv import WHOLE_PAGES, SmallKV

MakeEngine = Callable[..., Engine]


@pytest.fixture
def kv(tmp_path: Path) -> Iterator[SmallKV]:
    with open_store(f"file://{tmp_path}/kv") as store:
        yield SmallKV(WHOLE_PAGES.build(), store)


@pytest.fixture
def make(kv: SmallKV) -> Iterator[MakeEngine]:
    """``make("layerwise:depth=2", store)``: an engine over ``kv``'s cache, closed at the end."""
    with ExitStack() as stack:

        def build(spec: str, store: Store | None = None, recorder: Recorder | None = None) -> Engine:
            arm = parse_arm(spec)
            engine = arm.engine(store or kv.store, kv.cache, arm.options, recorder or Recorder())
            stack.callback(engine.close)
            return engine

        yield build
