"""One vLLM engine over one store: what every stage of the experiment works with."""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from harness.connector.peers.arm import PeerArm
from harness.connector.settings import Arm
from harness.core.chunks import ChunkKey, chain, for_rank, hit_limit, root
from harness.core.errors import RunError, StoreUnavailable
from harness.experiment.span_log import SpanLogReader
from harness.replay.in_process import EngineSettings, InProcessEngine
from harness.replay.outcome import Outcome
from harness.stores.base import Store
from harness.stores.layered import in_layout

PRIMER = "chunkwise"
"""The arm that primes: it hits what is stored already and saves the rest."""


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


class Session:
    """Sends requests to one engine and keeps account of what it stored."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        log: SpanLogReader,
        chunk_tokens: int,
        *,
        prefix: str = "",
        logged: bool = True,
        local: bool = True,
        shared: bool = False,
    ) -> None:
        """``prefix``: put before every label. ``logged``: the connector's span log can be read; without it there are no keys
        and no proofs of bytes. ``local``: the store's files, if it has any, are in this machine's page cache.
        ``shared``: others may use the same engine, so what the span log calls saved need not be ours.
        """
        self.engine = engine
        self.store = store
        self.log = log
        self.chunk_tokens = chunk_tokens
        self.logged = logged
        self.local = local
        self._prefix = prefix
        self._shared = shared
        self._own: set[str] = set()
        self._numbers = itertools.count()
        self._roots: dict[str, bytes] = {}
        self.stored: set[str] = set()

    @classmethod
    def start(cls, settings: EngineSettings, store: Store, folder: Path, chunk_tokens: int) -> "Session":
        """Start vLLM with a span log below ``folder``. Raises SetupError."""
        logs = folder / "span_log"
        logs.mkdir(parents=True, exist_ok=True)
        _clear(logs, store)
        engine = InProcessEngine.start(settings, folder / "vllm.log")
        log = SpanLogReader(logs)
        log.poll()
        if not log.start:
            engine.close()
            raise RunError(f"the connector left no span log in {logs}; see {folder / 'vllm.log'}")
        return cls(engine, in_layout(store, log.start), log, chunk_tokens)

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
        """One request by one arm, granted ``hit`` tokens at most; ``heard`` is told when each output arrives."""
        params = {"arm": arm, "max_hit_tokens": hit, "save": save, "namespace": namespace, "label": label}
        if label:
            params["label"] = self._prefix + label
        if save and self._shared:
            self._own.update(self.keys(tokens, namespace))
        told = {"heard": heard} if heard is not None else {}
        return await self.engine.generate(f"ttft-{next(self._numbers)}", tokens, output_tokens, params, **told)

    def keys(self, tokens: Sequence[int], namespace: str) -> list[ChunkKey]:
        """The keys, of all ranks, of the whole chunks of ``tokens``; none without a span log, which tells what goes into them."""
        if not self.logged:
            return []
        if namespace not in self._roots:
            self._roots[namespace] = root({**self.log.start["identity"], "namespace": namespace})
        world = int(self.log.start["identity"]["world"])
        keys = chain(self._roots[namespace], tokens, self.chunk_tokens)
        return [for_rank(key, rank, world) for key in keys for rank in range(world)]

    def head(self, tokens: Sequence[int], hit: int) -> Sequence[int]:
        """What has to be computed and saved once so that ``tokens`` hit ``hit``."""
        return tokens[:hit]

    async def prime(self, heads: Sequence[Sequence[int]], namespace: str) -> None:
        """Compute and save all chunks of ``heads``. Raises StoreUnavailable or RunError."""
        for tokens in heads:
            # The last token is computed anew, so one token more makes the last chunk part of the hit's limit.
            outcome = await self.send(PRIMER, tokens, 1, namespace, hit=len(tokens), save=True)
            self.note_saves()
            if outcome.error:
                raise RunError(f"priming failed: {outcome.error}")
            missing = [key for key in self.keys(tokens, namespace) if key not in self.log.saved]
            if missing:
                log = "the server's log" if self._shared else "vllm.log in the run's folder"
                raise RunError(f"priming left {len(missing)} chunks unsaved; see {log}")
            if not self.logged:
                await self._read_again(tokens, namespace)

    async def _read_again(self, tokens: Sequence[int], namespace: str) -> None:
        """Without a span log, what was saved shows in a second reading only. Raises RunError."""
        again = await self.send(PRIMER, tokens, 1, namespace, hit=len(tokens), save=False)
        expected = hit_limit(len(tokens), self.chunk_tokens)
        if again.error or again.cached_tokens != expected:
            why = again.error or f"read again, it hit {again.cached_tokens} of {expected} tokens"
            raise RunError(f"priming failed: {why}")

    def note_saves(self) -> None:
        """Take in what was saved since the last call. Raises StoreUnavailable where a save failed."""
        self._account()
        if self.log.save_errors:
            raise StoreUnavailable(f"chunks could not be saved: {self.log.save_errors[0]}")

    def _account(self) -> None:
        self.log.poll()
        self.stored.update(self.log.saved.keys() & self._own if self._shared else self.log.saved)

    def keep_cached(self, keys: Sequence[str]) -> bool:
        """Have these chunks in the page cache; whether the store can tell that all of them are."""
        self.store.fill_os_cache(keys)
        return not keys or self.store.cached_fraction(keys) == 1.0

    async def drop_page_cache(self, keys: Sequence[str]) -> bool:
        """Have the operating system forget these chunks; whether that could be verified."""
        return await asyncio.to_thread(self.store.evict_from_os_cache, keys)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove chunks that this session stored."""
        gone = self.stored.intersection(keys)
        self.store.delete(gone)
        self.stored -= gone
        self._own -= gone
        self.log.forget(gone)

    def hand_over(self, *, keep_store: bool = False) -> None:
        """Make way for another experiment: of this one no chunk is left in the store, and nothing unread in the span log."""
        self._account()
        if not keep_store:
            self.store.delete(self.stored)
        self.stored.clear()
        self.log.begin_anew()

    def close(self, *, keep_store: bool = False) -> None:
        """Stop vLLM, and clean up the store."""
        self.engine.close()
        self._account()
        if not keep_store:
            self.store.delete(self.stored)


def _clear(logs: Path, store: Store) -> None:
    """Begin with an empty span log; chunks that an interrupted session left in the store go with the old one."""
    leftover = SpanLogReader(logs)
    leftover.poll()
    in_layout(store, leftover.start).delete(leftover.saved)
    for path in logs.glob("worker-*.jsonl"):
        path.unlink()


def loading_arms(arms: Mapping[str, Arm | PeerArm]) -> list[str]:
    """Names of the arms that move KV."""
    return [name for name, arm in arms.items() if arm.engine.loads_kv]
