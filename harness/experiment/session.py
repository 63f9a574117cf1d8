"""What every stage of an experiment works with: one vLLM over one store.

``Session`` is the interface with what all share; ``OwnSession`` is vLLM in this process, at_server.py has the one for a
server with our connector, at_targets.py for servers without it, at_peer.py for a vLLM with another connector.
"""

import asyncio
import contextlib
import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from harness.connector.settings import Arm
from harness.core.chunks import ChunkKey, chain, for_rank, root
from harness.core.errors import RunError, StoreUnavailable
from harness.experiment import correctness
from harness.experiment.cache_state import PlannedRun
from harness.experiment.hooks import Hooks
from harness.experiment.plan import PRIMER, Setting
from harness.experiment.rows import hit_reason, tokens_digest
from harness.experiment.span_log import SpanLogReader
from harness.replay.in_process import EngineSettings, InProcessEngine
from harness.replay.outcome import Outcome
from harness.stores.base import Store
from harness.stores.layered import in_layout
from harness.workloads.base import Prompt

SPAN_LOG, VLLM_LOG = "span_log", "vllm.log"
"""What vLLM leaves in the folder of its session: the connector's span log, a folder, and its own log."""
SAVING_S = 30.0


class Engine(Protocol):
    """vLLM in this process (in_process.py) or behind its API (over_http.py)."""

    async def generate(
        self,
        request_id: str,
        tokens: Sequence[int],
        output_tokens: int,
        params: Mapping[str, Any],
        heard: Callable[[float], None] | None = None,
    ) -> Outcome:
        """Serve one prompt; a failed one is an outcome with an error."""

    def close(self) -> None:
        """Stop. Safe to call twice."""


class Session(ABC):
    """Sends requests to one vLLM and notes what they stored.

    ``logged``: the connector's span log can be read; without it there are no keys and no proofs of bytes. ``local``: the
    store's files, if it has any, are in this machine's page cache. ``notes``: what a reader of the numbers has to know.
    """

    their_log: ClassVar[str] = f"{VLLM_LOG} in the results folder"

    def __init__(
        self, engine: Engine, store: Store, log: SpanLogReader, chunk_tokens: int, *, logged: bool = True, local: bool = True
    ) -> None:
        self.engine = engine
        self.store = store
        self.log = log
        self.chunk_tokens = chunk_tokens
        self.logged = logged
        self.local = local
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.stored: set[str] = set()
        self._numbers = itertools.count()
        self._roots: dict[str, bytes] = {}

    async def send(
        self,
        arm: str,
        tokens: Sequence[int],
        output_tokens: int,
        namespace: str,
        *,
        hit: int,
        save: bool,
        label: str = "",
        heard: Callable[[float], None] | None = None,
    ) -> Outcome:
        """One request by one arm, granted ``hit`` tokens at most; ``heard`` is called when an output arrives."""
        params = self.params(arm, tokens, namespace, hit=hit, save=save, label=label)
        return await self.serve(label, tokens, output_tokens, params, heard)

    @abstractmethod
    def params(self, arm: str, tokens: Sequence[int], namespace: str, *, hit: int, save: bool, label: str) -> Mapping[str, Any]:
        """What the connector has to know of a request."""

    async def serve(
        self,
        label: str,
        tokens: Sequence[int],
        output_tokens: int,
        params: Mapping[str, Any],
        heard: Callable[[float], None] | None,
    ) -> Outcome:
        """Hand a request to vLLM."""
        return await self.engine.generate(f"ttft-{next(self._numbers)}", tokens, output_tokens, params, heard)

    @abstractmethod
    async def prime(self, heads: Sequence[Sequence[int]], namespace: str) -> None:
        """Store all chunks of ``heads``. Raises StoreUnavailable or RunError."""

    @abstractmethod
    async def prove(self, setting: Setting, chosen: Sequence[tuple[Prompt, int]], namespace: str) -> dict[str, Any]:
        """The correctness pass, for run.json. Raises VoidRuns at the first difference."""

    def facts(self) -> dict[str, Any]:
        """What run.json says of this session."""
        return {}

    def keys(self, tokens: Sequence[int], namespace: str) -> list[ChunkKey]:
        """The keys, of all ranks, of the whole chunks of ``tokens``; none without a span log, which has what goes into them."""
        if not self.logged:
            return []
        if namespace not in self._roots:
            self._roots[namespace] = root({**self.log.start["identity"], "namespace": namespace})
        world = int(self.log.start["identity"]["world"])
        keys = chain(self._roots[namespace], tokens, self.chunk_tokens)
        return [for_rank(key, rank, world) for key in keys for rank in range(world)]

    async def failed_blocks(self) -> float | None:
        """Blocks that vLLM could not load so far, for any request; 0 if the span log says so for each request."""
        return 0

    async def begin_run(self, planned: PlannedRun) -> None:  # noqa: B027
        """What a run needs before it is timed; nothing by default. Raises RunError."""

    async def end_run(self, planned: PlannedRun) -> str:
        """Why a run that is over does not count as a whole, or nothing."""
        return ""

    def hit_reason(self, arm: str, position: int, expected: int, hit: int | None) -> str:
        """Empty if the hit of the prompt at ``position`` is what the workload implies."""
        return hit_reason(expected, hit)

    def digest(self, outcome: Outcome) -> str:
        """Of the answer, to be compared with those of other runs."""
        return tokens_digest(outcome.tokens)

    def behind_window(self, tokens: Sequence[int], hit: int, namespace: str) -> list[ChunkKey]:
        """Keys of the first chunks of a hit that vLLM has freed, in whole or in part, when the prompt is computed."""
        window = int(self.log.start.get("window", 0))
        block = int(self.log.start["geometry"]["block_tokens"]) if window else 1
        freed = max(0, len(tokens) - window + 1) // block * block if window else 0
        return self.keys(tokens[: min(hit, -(-freed // self.chunk_tokens) * self.chunk_tokens)], namespace)

    def head(self, tokens: Sequence[int], hit: int) -> Sequence[int]:
        """What has to be computed once so that ``tokens`` hit ``hit``."""
        return tokens[:hit]

    def heads(self, setting: Setting) -> Sequence[Sequence[int]]:
        """What has to be computed before the timed runs."""
        return setting.heads

    def note_saves(self) -> None:
        """Take in what was saved since the last call. Raises StoreUnavailable if a save failed."""
        self.log.poll()
        self.stored.update(self._ours(self.log.saved))
        if self.log.save_errors:
            raise StoreUnavailable(f"chunks could not be saved: {self.log.save_errors[0]}")

    def _ours(self, saved: Iterable[str]) -> Iterable[str]:
        """Those of the saved chunks that this session stored."""
        return saved

    def keep_cached(self, keys: Sequence[str]) -> bool:
        """Bring these chunks into the page cache; whether the store can verify that all of them are there."""
        self.store.fill_os_cache(keys)
        return not keys or self.store.cached_fraction(keys) == 1.0

    async def drop_page_cache(self, keys: Sequence[str]) -> bool:
        """Have the operating system drop these chunks; whether that could be verified."""
        return await asyncio.to_thread(self.store.evict_from_os_cache, keys)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove chunks that this session stored."""
        gone = self.stored.intersection(keys)
        self.store.delete(gone)
        self.stored -= gone
        self.log.forget(gone)

    def close(self, *, keep_store: bool = False) -> None:
        """Stop vLLM, and clean up the store."""
        self.engine.close()
        with contextlib.suppress(StoreUnavailable):  # a save that failed has been reported or comes too late
            self.note_saves()
        if not keep_store:
            self.store.delete(self.stored)


class OwnSession(Session):
    """vLLM with our connector."""

    @classmethod
    def start(cls, settings: EngineSettings, store: Store, folder: Path, chunk_tokens: int) -> "OwnSession":
        """Start vLLM in this process with a span log below ``folder``. Raises SetupError."""
        logs = folder / SPAN_LOG
        logs.mkdir(parents=True, exist_ok=True)
        _clear(logs, store)
        engine = InProcessEngine.start(settings, folder / VLLM_LOG)
        log = SpanLogReader(logs)
        log.poll()
        if not log.start:
            engine.close()
            raise RunError(f"the connector left no span log in {logs}; see {folder / VLLM_LOG}")
        return cls(engine, in_layout(store, log.start), log, chunk_tokens)

    def params(self, arm: str, tokens: Sequence[int], namespace: str, *, hit: int, save: bool, label: str) -> Mapping[str, Any]:
        """As our connector reads them."""
        return {"arm": arm, "max_hit_tokens": hit, "save": save, "namespace": namespace, "label": label}

    async def prime(self, heads: Sequence[Sequence[int]], namespace: str) -> None:
        """As the interface says, by the arm that saves."""
        for tokens in heads:
            # The last token is computed anew, so one token more makes the last chunk part of the hit's limit.
            outcome = await self.send(PRIMER, tokens, 1, namespace, hit=len(tokens), save=True)
            if outcome.error:
                raise RunError(f"priming failed: {outcome.error}")
            if missing := await self._unsaved(self.keys(tokens, namespace)):
                raise RunError(f"priming left {len(missing)} chunks unsaved; see {self.their_log}")

    async def _unsaved(self, keys: Sequence[ChunkKey]) -> list[ChunkKey]:
        """Which of ``keys`` the span log does not call saved; a server that saves behind the step gets SAVING_S for it."""
        end = time.monotonic() + (SAVING_S if self.log.start.get("save_threads") else 0.0)
        while True:
            self.note_saves()
            missing = [key for key in keys if key not in self.log.saved]
            if not missing or time.monotonic() >= end:
                return missing
            await asyncio.sleep(0.01)

    async def prove(self, setting: Setting, chosen: Sequence[tuple[Prompt, int]], namespace: str) -> dict[str, Any]:
        """Every loading arm against ``recompute``, in a namespace that is deleted afterwards."""
        await self.prime([prompt.tokens[:hit] for prompt, hit in chosen], namespace)
        arms = {name: arm for name in setting.loading_arms if isinstance(arm := setting.arms[name], Arm)}
        found = await correctness.check(self, arms, chosen, namespace)
        self.delete([key for prompt, hit in chosen for key in self.keys(prompt.tokens[:hit], namespace)])
        return found

    def hand_over(self, *, keep_store: bool = False) -> None:
        """Make way for another experiment: its chunks are deleted from the store, and its span log is read to the end."""
        self.log.poll()
        self.stored.update(self.log.saved)
        if not keep_store:
            self.store.delete(self.stored)
        self.stored.clear()
        self.log.begin_anew()


def _clear(logs: Path, store: Store) -> None:
    """Begin with an empty span log; chunks that an interrupted session left in the store go with the old one."""
    leftover = SpanLogReader(logs)
    leftover.poll()
    in_layout(store, leftover.start).delete(leftover.saved)
    for path in logs.glob("worker-*.jsonl"):
        path.unlink()


def engine_settings(setting: Setting, dtype: str, span_log: Path, *, save: bool) -> EngineSettings:
    """How to start vLLM with our connector. ``save``: whether requests that don't say so are saved."""
    experiment = setting.experiment
    return EngineSettings(
        model=setting.model.path,
        dtype=dtype,
        max_model_len=setting.max_model_len,
        kv_cache_bytes=int(experiment.kv_cache_gib * 2**30),
        connector={
            "store": experiment.store,
            "arms": setting.served_arms,
            "chunk_tokens": experiment.chunk_tokens,
            "layout": experiment.layout,
            "save": save,
            "span_log": str(span_log.absolute()),
        },
        load_failure_policy=setting.load_failure_policy,
        tensor_parallel=experiment.tensor_parallel,
        extra=experiment.vllm,
        environment=setting.model.environment,
    )


@contextlib.asynccontextmanager
async def own_session(setting: Setting, store: Store, folder: Path, hooks: Hooks, dtype: str) -> AsyncIterator[Session]:
    """Start vLLM in this process, and stop it. Raises SetupError."""
    hooks.stage(f"starting vLLM ({dtype})")
    settings = engine_settings(setting, dtype, folder / SPAN_LOG, save=False)
    session = OwnSession.start(settings, store, folder, setting.experiment.chunk_tokens)
    try:
        yield session
    finally:
        session.close(keep_store=setting.experiment.keep_store)
