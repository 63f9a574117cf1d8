"""vLLM's asynchronous engine inside this process; its scheduler and workers are processes of their own."""

import asyncio
import contextlib
import itertools
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core.errors import SetupError
from harness.core.machine import uses_gpu
from harness.core.processes import OWNER, interrupted_at_once
from harness.core.vllm_versions import preemptions_of
from harness.replay.outcome import Outcome
from harness.replay.sockets import own_sockets
from harness.replay.start_failure import end_cause, start_failure

START_SHARE = 0.05
"""vLLM refuses to start where less than this part of a GPU's memory is free. What it takes is another thing: weights,
activations, and a KV cache of ``kv_cache_bytes``. So several vLLMs of a comparison start beside one another on one GPU."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How to start vLLM. ``connector`` is our ``kv_connector_extra_config``; ``peer``, where there is one, are all arguments
    of ``KVTransferConfig`` for a connector that takes its place. ``environment`` yields to what is set already."""

    model: str
    dtype: str
    max_model_len: int
    kv_cache_bytes: int
    connector: Mapping[str, Any]
    load_failure_policy: str = "recompute"
    tensor_parallel: int = 1
    extra: Mapping[str, Any] = field(default_factory=dict)
    peer: Mapping[str, Any] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


class InProcessEngine:
    """One running vLLM engine. Use ``start`` and ``close``."""

    def __init__(self, engine: Any, log: Path, sockets: contextlib.ExitStack | None = None) -> None:
        """``sockets``: to be closed after vLLM."""
        self._engine = engine
        self._log = log
        self._sockets = sockets

    @classmethod
    def start(cls, settings: EngineSettings, log: Path) -> "InProcessEngine":
        """Start vLLM; everything it prints goes to ``log``. Must run inside an event loop.

        Raises SetupError where vLLM is missing or does not start.
        """
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "INFO")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        # The clients of some stores (obstore's) hang in a forked process; vLLM forks its workers by default on CUDA.
        os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
        for name, value in settings.environment.items():
            os.environ.setdefault(name, value)
        os.environ[OWNER] = str(os.getpid())
        before = log.stat().st_size if log.exists() else 0
        with _output_to(log):
            try:
                from vllm.v1.engine.async_llm import AsyncLLM
            except ImportError as error:
                raise SetupError(f"vLLM does not import ({error}); install it with make, and see ttft doctor") from error
            sockets = own_sockets()
            try:
                # It blocks, and where Ctrl-C ended vLLM's process alone it would wait ten minutes for that.
                with interrupted_at_once():
                    engine = AsyncLLM.from_engine_args(_engine_args(settings))
            except BaseException as error:
                sockets.close()
                if isinstance(error, SetupError) or not isinstance(error, Exception):
                    raise
                reason = start_failure(error, log.read_bytes()[before:].decode(errors="replace"))
                raise SetupError(f"vLLM did not start with model {settings.model}: {reason}; its log is {log}") from error
            _log_to(log)  # not earlier: vLLM sets its logging up while it starts
        return cls(engine, log, sockets)

    async def generate(
        self,
        request_id: str,
        tokens: Sequence[int],
        output_tokens: int,
        params: Mapping[str, Any],
        heard: Callable[[float], None] | None = None,
    ) -> Outcome:
        """Send one prompt and read its stream; greedy, always ``output_tokens`` tokens. Never raises for a failed request.

        ``heard`` is called with the time at which each output arrived. Cancelling ends the request in vLLM too.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        sampling = SamplingParams(
            temperature=0.0,
            max_tokens=output_tokens,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            extra_args={"kv_transfer_params": dict(params)},
        )
        prompt = {"prompt_token_ids": list(tokens)}
        received: list[int] = []
        arrivals: list[float] = []
        item: Any = None
        sent = time.perf_counter()
        try:
            async for item in self._engine.generate(prompt, sampling, request_id):
                if item.outputs[0].token_ids:
                    arrivals.append(time.perf_counter())
                    if heard is not None:
                        heard(arrivals[-1])
                received.extend(item.outputs[0].token_ids)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  a failed request is a row with an error, whatever vLLM raised
            return Outcome(sent, arrivals[0] if arrivals else None, error=self._told(error))
        return _outcome(item, sent, arrivals, time.perf_counter(), received, output_tokens)

    def _told(self, error: Exception) -> str:
        """In a row. That vLLM's engine is gone says nothing; its log does."""
        name = type(error).__name__
        cause = end_cause(self._log.read_text(encoding="utf-8", errors="replace")) if name == "EngineDeadError" else ""
        return f"{name}: {cause or error}"

    def close(self) -> None:
        """Stop vLLM's processes. Safe to call twice."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.shutdown()
            # vLLM shuts down once more when the object dies, which fails while Python itself goes down.
            engine.shutdown = lambda *_, **__: None
        if self._sockets is not None:
            self._sockets.close()


def _outcome(item: Any, sent: float, arrivals: list[float], last: float, received: list[int], wanted: int) -> Outcome:
    metrics = item.metrics
    error = ""
    if len(received) != wanted:
        reason = item.outputs[0].finish_reason if item.outputs else "no output"
        error = f"vLLM gave {len(received)} of {wanted} tokens (finish reason: {reason})"
    return Outcome(
        sent_s=sent,
        first_s=arrivals[0] if arrivals else None,
        last_s=last,
        tokens=tuple(received),
        token_gaps_s=tuple(after - before for before, after in itertools.pairwise(arrivals)),
        cached_tokens=item.num_cached_tokens,
        server_ttft_s=metrics.first_token_latency or None,
        queue_s=metrics.scheduled_ts - metrics.queued_ts if metrics.scheduled_ts else None,
        prefill_s=metrics.first_token_ts - metrics.scheduled_ts if metrics.first_token_ts else None,
        preemptions=preemptions_of(metrics),
        error=error,
    )


def transfer_arguments(settings: EngineSettings) -> dict[str, Any]:
    """What vLLM's ``KVTransferConfig`` takes."""
    if settings.peer is not None:
        return dict(settings.peer)
    return {
        "kv_connector": "TTFTConnector",
        "kv_connector_module_path": "harness.connector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": dict(settings.connector),
        "kv_load_failure_policy": settings.load_failure_policy,
    }


def engine_arguments(settings: EngineSettings) -> dict[str, Any]:
    """The engine arguments by name, but for the connector's."""
    gpu = uses_gpu()
    arguments: dict[str, Any] = {
        "model": settings.model,
        "dtype": settings.dtype,
        "max_model_len": settings.max_model_len,
        # A hit's suffix and a prime's whole prompt in one step: chunked prefill would split what is compared.
        "max_num_batched_tokens": max(settings.max_model_len, 2048),
        "kv_cache_memory_bytes": settings.kv_cache_bytes,
        "tensor_parallel_size": settings.tensor_parallel,
        "skip_tokenizer_init": True,
        "enforce_eager": not gpu,  # compiling takes a minute on a CPU and gains little; a GPU's launches cost without graphs
        # Asynchronously the next step, which may digest what was loaded, begins before the tokens of this one leave: the
        # digests would lie inside the TTFT of the arms that load. After a failed load that step also computes on garbage.
        "async_scheduling": False,
        "enable_prefix_caching": False,  # vLLM's own cache would hide the engines
        "disable_log_stats": False,
        "seed": 0,
    }
    if gpu:
        arguments["gpu_memory_utilization"] = START_SHARE
    return {**arguments, **settings.extra}


def _engine_args(settings: EngineSettings) -> Any:
    from vllm.config import KVTransferConfig
    from vllm.engine.arg_utils import AsyncEngineArgs

    transfer = KVTransferConfig(**transfer_arguments(settings))
    try:
        return AsyncEngineArgs(**{"kv_transfer_config": transfer, **engine_arguments(settings)})
    except TypeError as error:
        raise SetupError(f"vLLM does not know an engine argument of [vllm]: {error}") from error


def _log_to(log: Path) -> None:
    """Send what vLLM logs in this process to the file too."""
    logger = logging.getLogger("vllm")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        if isinstance(handler, logging.FileHandler):  # ours, of an engine before this one
            handler.close()
    logger.addHandler(logging.FileHandler(log))
    logger.propagate = False


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Point file descriptors 1 and 2 at ``log``, so that vLLM's processes inherit them, and put them back."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.dup2(target, 1)
        os.dup2(target, 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for descriptor in (*saved, target):
            os.close(descriptor)
