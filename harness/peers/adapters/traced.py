"""Any connector, with a note of when vLLM asked it what a first token waits for, and how long each answer took.

vLLM finds a connector by class name and module. Asked for ``NAME`` or ``NAME@MODULE``, this module gives a subclass of that
one which takes the times and changes nothing else. They go to the folder that the variable TTFT_PEER_TRACE names:

    {"kind": "start", "torch_threads"}                                  each worker, once
    {"kind": "lookup", "start_s", "end_s", "hit_tokens" | null, "between_steps"}   each time the scheduler asked for a hit
    {"kind": "forward", "rank", "start_s", "end_s", "spans": [[kind, layer, start_s, end_s], ...]}   each forward, from its
                                                                        loads on; kinds are wait and forward
"""

import importlib
import os
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole

from harness.trace_log import Trace

FOLDER = "TTFT_PEER_TRACE"


def __getattr__(name: str) -> Any:
    """The traced class of ``NAME`` or ``NAME@MODULE``."""
    if name.startswith("__"):
        raise AttributeError(name)
    return traced(name)


@cache
def traced(name: str) -> type[Any]:
    """A subclass of the connector ``NAME``, or ``NAME@MODULE``, whose calls are timed."""
    plain, at, module = name.partition("@")
    real: Any = getattr(importlib.import_module(module), plain, None) if at else None
    if at and real is None:
        raise ImportError(f"the module {module} has no class {plain}")
    real = real or KVConnectorFactory.get_connector_class_by_name(plain)

    class Traced(real):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            config = args[0] if args else kwargs["vllm_config"]
            role = args[1] if len(args) > 1 else kwargs["role"]
            rank = config.parallel_config.rank
            self._ttft = Times("scheduler" if role == KVConnectorRole.SCHEDULER else f"{rank}", rank)

        def get_num_new_matched_tokens(self, *args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            found = super().get_num_new_matched_tokens(*args, **kwargs)
            self._ttft.looked_up(start, time.perf_counter(), *found)
            return found

        def build_connector_meta(self, *args: Any, **kwargs: Any) -> Any:
            self._ttft.write_earlier()
            return super().build_connector_meta(*args, **kwargs)

        def bind_connector_metadata(self, *args: Any, **kwargs: Any) -> None:
            self._ttft.begin_step()
            super().bind_connector_metadata(*args, **kwargs)

        def start_load_kv(self, *args: Any, **kwargs: Any) -> None:
            start = time.perf_counter()
            super().start_load_kv(*args, **kwargs)
            self._ttft.loaded(start, time.perf_counter())

        def wait_for_layer_load(self, *args: Any, **kwargs: Any) -> None:
            start = time.perf_counter()
            super().wait_for_layer_load(*args, **kwargs)
            self._ttft.waited(start, time.perf_counter())

        def wait_for_save(self, *args: Any, **kwargs: Any) -> None:
            self._ttft.end_forward()
            super().wait_for_save(*args, **kwargs)

        def shutdown(self) -> Any:
            self._ttft.close()
            return super().shutdown()

    Traced.__name__ = Traced.__qualname__ = f"Traced{plain}"
    return Traced


class Times:
    """Of one process. Records are kept until the step after: writing takes longer than noting, and the token would wait."""

    def __init__(self, process: str, rank: int) -> None:
        """``process``: for the file's name."""
        self._trace = Trace(os.environ.get(FOLDER, ""), f"worker-{process}")
        self._rank = rank
        self._earlier: list[Mapping[str, Any]] = []
        self._fresh: list[Mapping[str, Any]] = []
        self._begin = 0.0
        self._load: tuple[float, float] | None = None
        self._waits: list[tuple[float, float]] = []
        if process != "scheduler":
            self._trace.write({"kind": "start", "torch_threads": torch.get_num_threads()})

    def looked_up(self, start_s: float, end_s: float, tokens: int | None, between_steps: bool) -> None:
        """``tokens``: None where the connector does not know yet. ``between_steps``: whether it loads asynchronously."""
        record = {"start_s": start_s, "end_s": end_s, "hit_tokens": tokens, "between_steps": bool(between_steps)}
        self._fresh.append({"kind": "lookup", **record})

    def write_earlier(self) -> None:
        """Write what was noted before the step that the scheduler has planned now."""
        for record in self._earlier:
            self._trace.write(record)
        self._earlier, self._fresh = self._fresh, []

    def begin_step(self) -> None:
        """Write what the step before noted, whose token is on its way."""
        for record in self._fresh:
            self._trace.write(record)
        self._fresh = []
        self._begin, self._load, self._waits = time.perf_counter(), None, []

    def loaded(self, start_s: float, end_s: float) -> None:
        """VLLM lets loads begin before a forward that needs them, and after any other."""
        self._load = (start_s, end_s)

    def waited(self, start_s: float, end_s: float) -> None:
        """At the attention of the next layer."""
        self._waits.append((start_s, end_s))

    def end_forward(self) -> None:
        """Before the saves. A step without attention had no forward."""
        end_s = time.perf_counter()
        if not self._waits:
            return
        begin, load = self._begin, self._load
        spans: list[list[Any]] = [["wait", layer, *wait] for layer, wait in enumerate(self._waits)]
        if load is not None and load[0] < self._waits[0][0]:
            begin = load[1]
            spans.insert(0, ["wait", -1, *load])
        elif load is not None:
            end_s = load[0]
        spans.append(["forward", -1, begin, end_s])
        start_s = min(begin, spans[0][2])
        self._fresh.append({"kind": "forward", "rank": self._rank, "start_s": start_s, "end_s": end_s, "spans": spans})

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._trace.close()
