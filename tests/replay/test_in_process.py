"""The client's clock and what vLLM is asked for, over a stand-in for vLLM's asynchronous engine."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from harness.replay import in_process
from harness.replay.in_process import EngineSettings, InProcessEngine
from harness.replay.outcome import Outcome
from harness.replay.sockets import SOCKETS, own_sockets

SETTINGS = EngineSettings("m", "float32", 512, 1 << 20, {"store": "mem://x", "arms": ["floor"]})
METRICS = SimpleNamespace(
    first_token_latency=2.75, queued_ts=100.0, scheduled_ts=100.25, first_token_ts=102.5, last_token_ts=104.0, num_preemptions=1
)


@dataclass
class Clock:
    """Seconds that pass only when told."""

    now: float = 50.0

    def __call__(self) -> float:
        return self.now


@dataclass
class StreamingEngine:
    """Yields (seconds to wait, tokens) one after the other; an exception in their place is raised."""

    clock: Clock
    stream: Sequence[tuple[float, list[int]] | BaseException]
    asked: list[tuple[Any, Any, str]] = field(default_factory=list)

    async def generate(self, prompt: Any, sampling: Any, request_id: str) -> AsyncIterator[Any]:
        self.asked.append((prompt, sampling, request_id))
        for piece in self.stream:
            if isinstance(piece, BaseException):
                raise piece
            seconds, tokens = piece
            self.clock.now += seconds
            yield SimpleNamespace(
                outputs=[SimpleNamespace(token_ids=tokens, finish_reason="length")], metrics=METRICS, num_cached_tokens=256
            )
        self.clock.now += 7.0  # what comes after the last output is nobody's latency but the whole request's

    def shutdown(self) -> None:
        """Nothing runs."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(in_process, "time", SimpleNamespace(perf_counter=clock))
    return clock


@pytest.fixture(autouse=True)
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules that keep what they are given."""
    keep = SimpleNamespace
    parts: dict[str, dict[str, Any]] = {
        "vllm": {"SamplingParams": keep},
        "vllm.sampling_params": {"RequestOutputKind": keep(DELTA="delta")},
        "vllm.config": {"KVTransferConfig": keep},
        "vllm.engine": {},
        "vllm.engine.arg_utils": {"AsyncEngineArgs": keep},
    }
    for name, members in parts.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)


LOG = Path("vllm.log")


def ask(engine: StreamingEngine, output_tokens: int = 3, log: Path = LOG) -> Outcome:
    return asyncio.run(InProcessEngine(engine, log).generate("r1", (5, 6), output_tokens, {"arm": "floor"}))


def test_the_first_token_is_the_first_output_with_a_token_in_it(clock: Clock) -> None:
    got = ask(StreamingEngine(clock, [(0.5, []), (2.0, [8]), (0.25, [9]), (1.0, [10])]))
    assert (got.sent_s, got.first_s) == (50.0, 52.5)
    assert got.tokens == (8, 9, 10)
    assert got.token_gaps_s == (0.25, 1.0)
    assert got.last_s is not None and got.last_s >= 53.75
    assert got.error == ""


def test_what_the_server_says_goes_beside_it(clock: Clock) -> None:
    got = ask(StreamingEngine(clock, [(1.0, [8, 9, 10])]))
    assert (got.server_ttft_s, got.queue_s, got.prefill_s) == (2.75, 0.25, 2.25)
    assert (got.cached_tokens, got.preemptions) == (256, 1)


def test_the_request_is_greedy_has_its_length_and_its_parameters(clock: Clock) -> None:
    engine = StreamingEngine(clock, [(1.0, [8, 9, 10])])
    ask(engine)
    ((prompt, sampling, request_id),) = engine.asked
    assert (prompt, request_id) == ({"prompt_token_ids": [5, 6]}, "r1")
    assert (sampling.temperature, sampling.max_tokens, sampling.ignore_eos, sampling.output_kind) == (0.0, 3, True, "delta")
    assert sampling.extra_args == {"kv_transfer_params": {"arm": "floor"}}


def test_too_few_tokens_and_an_exception_are_errors_of_their_request(clock: Clock) -> None:
    assert ask(StreamingEngine(clock, [(1.0, [8])])).error == "vLLM gave 1 of 3 tokens (finish reason: length)"
    broken = ask(StreamingEngine(clock, [(1.0, [8]), RuntimeError("the engine died")]))
    assert broken.error == "RuntimeError: the engine died"
    with pytest.raises(asyncio.CancelledError):
        ask(StreamingEngine(clock, [asyncio.CancelledError()]))


class EngineDeadError(Exception):
    """Of this name is vLLM's own."""


def test_an_engine_that_is_gone_is_explained_by_its_log(clock: Clock, tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text(
        "ERROR 11-24 21:40:04 [multiproc_executor.py:315] Worker proc VllmWorker-0 died unexpectedly (exit code: -9)\n"
    )
    dead = StreamingEngine(clock, [EngineDeadError("See stack trace (above) for the root cause.")])
    assert ask(dead, log=log).error.startswith("EngineDeadError: VllmWorker-0 was killed by signal 9, as Linux does where memory")
    log.write_text("nothing\n")
    dead = StreamingEngine(clock, [EngineDeadError("See stack trace (above) for the root cause.")])
    assert ask(dead, log=log).error == "EngineDeadError: See stack trace (above) for the root cause."


def test_nothing_of_vllm_may_hide_or_split_what_is_compared() -> None:
    args = in_process._engine_args(SETTINGS)
    assert args.enable_prefix_caching is False
    assert args.disable_log_stats is False
    assert args.max_num_batched_tokens >= args.max_model_len
    transfer = args.kv_transfer_config
    assert (transfer.kv_connector, transfer.kv_connector_module_path) == ("TTFTConnector", "harness.connector")
    assert transfer.kv_connector_extra_config == SETTINGS.connector


def test_vllms_sockets_get_a_folder_that_goes(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SOCKETS, raising=False)
    engine = InProcessEngine(StreamingEngine(clock, []), LOG, own_sockets())
    folder = Path(os.environ[SOCKETS])
    assert folder.is_dir()
    engine.close()
    engine.close()
    assert not folder.exists()
    assert SOCKETS not in os.environ  # a server that is started next must not look there


def test_one_ctrl_c_ends_a_start_that_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """vLLM waits up to ten minutes for a process of its own that the same Ctrl-C may have ended."""
    went_on: list[bool] = []

    def from_engine_args(_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        went_on.append(True)

    module = ModuleType("vllm.v1.engine.async_llm")
    vars(module)["AsyncLLM"] = SimpleNamespace(from_engine_args=from_engine_args)
    for name in ("vllm.v1", "vllm.v1.engine"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(in_process, "_engine_args", lambda settings: settings)

    async def start() -> None:
        InProcessEngine.start(SETTINGS, tmp_path / "vllm.log")

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(start())
    assert (went_on, SOCKETS in os.environ) == ([], False)
