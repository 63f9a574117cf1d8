"""Any connector, with the times at which vLLM asked it for what a first token waits for, and how long each answer took.

vLLM finds a connector by class name and module. Asked for ``NAME`` or ``NAME@MODULE``, this module gives a subclass of that
one that takes the times and changes nothing else. They go to the folder that the variable TTFT_PEER_SPAN_LOG names:

    {"kind": "start", "torch_threads"}                                  each worker, once
    {"kind": "lookup", "start_s", "end_s", "hit_tokens" | null, "between_steps"}   each time the scheduler asked for a hit
    {"kind": "forward", "rank", "tokens" | null, "start_s", "end_s", "spans": [[kind, layer, start_s, end_s], ...]}   each
                                                                        forward, from its loads on: wait and forward
"""

import importlib
import inspect
import os
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole

from harness.core.processes import end_with_owner
from harness.core.spans import PEER_FOLDER, SpanLog


def __getattr__(name: str) -> Any:
    """The traced class of ``NAME`` or ``NAME@MODULE``."""
    if name.startswith("__"):
        raise AttributeError(name)
    return traced(name)


@cache
def traced(name: str) -> type[Any]:
    """A subclass of the connector ``NAME``, or ``NAME@MODULE``, whose calls are timed."""
    plain, _, module = name.partition("@")
    real: Any = _class_of(plain, module) if module else KVConnectorFactory.get_connector_class_by_name(plain)

    class Traced(real):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            end_with_owner()
            config = args[0] if args else kwargs["vllm_config"]
            role = args[1] if len(args) > 1 else kwargs["role"]
            rank = config.parallel_config.rank
            # Before the real one's: if that fails, its own shutdown may still be called.
            self._ttft = Times("scheduler" if role == KVConnectorRole.SCHEDULER else f"{rank}", rank)
            super().__init__(*args, **kwargs)

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

        def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
            start = time.perf_counter()
            super().start_load_kv(forward_context, **kwargs)
            self._ttft.loaded(start, time.perf_counter(), _tokens(forward_context))

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
    Traced.__signature__ = inspect.signature(real)  # by which vLLM tells connectors of an older interface
    return Traced


def _class_of(name: str, module: str) -> Any:
    """Raises ImportError: vLLM takes an AttributeError of any kind for a class that is not there."""
    try:
        found = importlib.import_module(module)
    except AttributeError as error:
        raise ImportError(f"the module {module} cannot be imported: {error}") from error
    if not hasattr(found, name):
        raise ImportError(f"the module {module} has no class {name}")
    return getattr(found, name)


def _tokens(forward_context: Any) -> int | None:
    """How many the forward computes; None if vLLM does not say."""
    found = getattr(forward_context, "attn_metadata", None)
    found = found[0] if isinstance(found, list) and found else found
    found = next(iter(found.values()), None) if isinstance(found, dict) else found
    count = getattr(found, "num_actual_tokens", None)
    return count if isinstance(count, int) else None


class Times:
    """Of one process. Records are kept until the step after: writing takes longer than noting, and the token would wait."""

    def __init__(self, process: str, rank: int) -> None:
        """``process``: for the file's name."""
        self._span_log = SpanLog(os.environ.get(PEER_FOLDER, ""), f"worker-{process}")
        self._rank = rank
        self._earlier: list[Mapping[str, Any]] = []
        self._fresh: list[Mapping[str, Any]] = []
        self._begin = 0.0
        self._load: tuple[float, float] | None = None
        self._tokens: int | None = None
        self._waits: list[tuple[float, float]] = []
        if process != "scheduler":
            self._span_log.write({"kind": "start", "torch_threads": torch.get_num_threads()})

    def looked_up(self, start_s: float, end_s: float, tokens: int | None, between_steps: bool) -> None:
        """``tokens``: None if the connector does not know yet. ``between_steps``: whether it loads asynchronously."""
        record = {"start_s": start_s, "end_s": end_s, "hit_tokens": tokens, "between_steps": bool(between_steps)}
        self._fresh.append({"kind": "lookup", **record})

    def write_earlier(self) -> None:
        """Write what was noted before the step that the scheduler has planned now."""
        for record in self._earlier:
            self._span_log.write(record)
        self._earlier, self._fresh = self._fresh, []

    def begin_step(self) -> None:
        """Write what the step before noted, whose token has left."""
        self._write()
        self._begin, self._load, self._tokens, self._waits = time.perf_counter(), None, None, []

    def loaded(self, start_s: float, end_s: float, tokens: int | None) -> None:
        """Where vLLM puts it: before a forward that needs loads, after any other. ``tokens``: that it computes."""
        self._load, self._tokens = (start_s, end_s), tokens

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
        told = {"kind": "forward", "rank": self._rank, "tokens": self._tokens}
        self._fresh.append({**told, "start_s": start_s, "end_s": end_s, "spans": spans})
        if self._tokens == 1:  # a later token, which nobody times: the next step may be another request's first
            self._write()

    def _write(self) -> None:
        for record in self._fresh:
            self._span_log.write(record)
        self._fresh = []

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._span_log.close()
