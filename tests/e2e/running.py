"""Real vLLM for tests: one engine a file, driven from synchronous tests through a loop of its own."""

import asyncio
import os
import re
import threading
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from harness.experiment.plan import PRIMER
from harness.experiment.session import OwnSession
from harness.replay import models
from harness.replay.in_process import EngineSettings
from harness.replay.outcome import Outcome
from harness.stores import Store, open_store
from harness.workloads.base import token_block

pytest.importorskip("vllm", reason="vLLM is not installed; make test installs it")

T = TypeVar("T")

SMALL_MODEL = "builtin:layers=4,hidden=128,intermediate=256,vocabulary=2048"
CHUNK = 256


def complaints(stderr: str) -> list[str]:
    """Lines on stderr but those of the progress, which a slow machine has more of."""
    return [line for line in stderr.splitlines() if not re.fullmatch(r"  \d+ of \d+ requests in .* left", line)]


def tokens(seed: str, count: int) -> list[int]:
    """Token ids for the small model."""
    return [int(token) for token in token_block(seed, count, 2048)]


def two_ranks() -> dict[str, str]:
    """The environment in which tensor parallelism 2 runs here; skips where the GPUs are too few.

    vLLM's CPU build binds a rank to a NUMA node by itself; where there is only one, the cores have to be named.
    """
    import torch

    if torch.cuda.is_available():
        if torch.cuda.device_count() < 2:
            pytest.skip("tensor parallelism 2 needs two GPUs, and here is one")
        return {}
    cores = sorted(os.sched_getaffinity(0))
    return {"VLLM_CPU_OMP_THREADS_BIND": f"{cores[0]}|{cores[-1]}"}


@dataclass
class Running:
    """A session whose coroutines are called from outside its loop."""

    loop: asyncio.AbstractEventLoop
    session: OwnSession
    store: Store
    folder: Path
    namespace: str = "e2e"
    _labels: int = field(default=0)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the session's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=240)

    def label(self) -> str:
        """A fresh label."""
        self._labels += 1
        return f"test/{self._labels}"

    def prime(self, prompt: Sequence[int], chunks: int) -> list[str]:
        """Store the first ``chunks`` chunks of a prompt and return their keys."""
        head = prompt[: chunks * CHUNK]
        self.call(self.session.prime([head], self.namespace))
        return list(self.session.keys(head, self.namespace))

    def send(self, arm: str, prompt: Sequence[int], output: int = 6, **more: Any) -> Outcome:
        """One request by one arm."""
        options: dict[str, Any] = {"hit": len(prompt), "save": False, "label": "", **more}
        return self.call(self.session.send(arm, prompt, output, self.namespace, **options))

    def send_all(self, requests: Sequence[tuple[str, Sequence[int], int, str]]) -> list[Outcome]:
        """(arm, prompt, output tokens, label) of requests that arrive together."""

        async def together() -> list[Outcome]:
            sends = [
                self.session.send(arm, prompt, output, self.namespace, hit=len(prompt), save=False, label=label)
                for arm, prompt, output, label in requests
            ]
            return await asyncio.gather(*sends)

        return self.call(together())

    def loads(self, label: str) -> list[dict[str, Any]]:
        """What the connector traced for a label."""
        self.session.log.poll()
        return self.session.log.loads(label)


def start(folder: Path, arms: Sequence[str], save_threads: int = 0, **engine: Any) -> Iterator[Running]:
    """Start vLLM with the small model over a file store below ``folder``; stop it at the end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    url = f"file://{folder / 'store'}"
    store = open_store(url)
    connector = {
        "store": url,
        "arms": [*arms, PRIMER, "recompute", "floor"],
        "save": False,
        "save_threads": save_threads,
        "span_log": str(folder / "run" / "span_log"),
    }
    settings: dict[str, Any] = {
        "model": models.resolve(SMALL_MODEL, "float32").path,
        "dtype": "float32",
        "max_model_len": 4096,
        "kv_cache_bytes": 256 * 2**20,
        "connector": connector,
        **engine,
    }

    async def begin() -> OwnSession:
        return OwnSession.start(EngineSettings(**settings), store, folder / "run", CHUNK)

    session = asyncio.run_coroutine_threadsafe(begin(), loop).result(timeout=280)
    try:
        yield Running(loop, session, store, folder)
    finally:

        async def end() -> None:
            session.close()

        asyncio.run_coroutine_threadsafe(end(), loop).result(timeout=60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=20)
        loop.close()
