"""Reads that wait until a test lets them go, layer by layer."""

import threading
from collections.abc import Callable

from harness.core.chunks import Layout
from harness.engines.base import Engine
from harness.testing.small_kv import SmallKV
from harness.testing.watched_store import Call

MakeEngine = Callable[..., Engine]

LAYERS = 6
READERS = ["", ",loops=1", ",loops=3"]
"""Threads, one event loop, three event loops."""


def first_layer(kv: SmallKV, call: Call) -> int:
    """The first layer that a call reads."""
    layout = Layout(kv.cache.geometry)
    return max(0, (call.reads[0].offset - layout.header_bytes) // layout.layer_stride)


class Gates:
    """Keeps the reads of each layer back until it is opened."""

    def __init__(self, kv: SmallKV) -> None:
        self._kv = kv
        self._open = [threading.Event() for _ in range(LAYERS)]

    def before(self, call: Call) -> None:
        if not self._open[first_layer(self._kv, call)].wait(20):
            raise TimeoutError("a gate was never opened")

    def open(self, *layers: int) -> None:
        for layer in layers:
            self._open[layer].set()
