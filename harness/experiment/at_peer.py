"""A session with a peer: as ours, but what was stored and hit shows only in counts of cached tokens and in the tokens."""

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import xxhash

from harness.connector.peers.arm import PeerArm
from harness.connector.peers.base import Peer, Place
from harness.core.errors import RunError, UsageError
from harness.core.spans import PEER_FOLDER
from harness.experiment import correctness
from harness.experiment.hooks import Hooks
from harness.experiment.plan import Setting
from harness.experiment.session import SPAN_LOG, VLLM_LOG, Engine, Session, engine_settings
from harness.experiment.span_log import PeerLogReader
from harness.replay.in_process import EngineSettings, InProcessEngine
from harness.replay.outcome import Outcome
from harness.stores.base import Store
from harness.stores.files.directory import named_directory
from harness.stores.files.page_cache import PAGE, drop, fill, resident_pages
from harness.workloads.base import Prompt

TIMED = "harness.connector.peers.adapters.traced"
"""The module that wraps any connector and times its calls."""


def place_of(setting: Setting, folder: Path) -> Place:
    """For the measurement in ``folder``; two measurements never share one."""
    store = named_directory(urlsplit(setting.experiment.store))
    name = xxhash.xxh3_64_hexdigest(str(folder.resolve()).encode())
    return Place(store.resolve() / "peers" / name, setting.experiment.chunk_tokens)


SETTLE_S = 20.0
"""How long a peer may take until its store has what it was given: some save after the request."""
ASK_AGAIN_S = 0.25


class PeerSession(Session):
    """Sends requests to a vLLM that runs a peer's connector. ``namespace`` and ``hit`` mean nothing to a peer."""

    def __init__(self, engine: Engine, store: Store, peer: Peer, chunk_tokens: int, logs: Path) -> None:
        self._times = PeerLogReader(logs)
        super().__init__(engine, store, self._times, chunk_tokens, logged=False)
        self.peer = peer
        self._sent = self._under_way = 0

    def params(self, arm: str, tokens: Sequence[int], namespace: str, *, hit: int, save: bool, label: str) -> Mapping[str, Any]:
        """The peer's own."""
        return self.peer.request(save=save)

    async def serve(
        self,
        label: str,
        tokens: Sequence[int],
        output_tokens: int,
        params: Mapping[str, Any],
        heard: Callable[[float], None] | None,
    ) -> Outcome:
        """As the base class; peers know nothing of labels, so times belong to a request that was alone."""
        self._sent += 1
        number, others = self._sent, self._under_way
        self._under_way += 1
        try:
            outcome = await super().serve(label, tokens, output_tokens, params, heard)
        finally:
            self._under_way -= 1
        alone = not others and number == self._sent
        if label and alone:
            self._times.settle(label, outcome)
        return outcome

    def head(self, tokens: Sequence[int], hit: int) -> Sequence[int]:
        """What has to be computed once so that ``tokens`` hit ``hit``."""
        return tokens if self.peer.primes_prompts else tokens[:hit]

    def heads(self, setting: Setting) -> Sequence[Sequence[int]]:
        """Whole prompts for a peer that hits nothing less."""
        if not self.peer.primes_prompts:
            return setting.heads
        return [prompt.tokens for prompt, hit in zip(setting.data.prompts, setting.hits, strict=True) if hit]

    async def prove(self, setting: Setting, chosen: Sequence[tuple[Prompt, int]], namespace: str) -> dict[str, Any]:
        """The tokens of prompts that it loads equal those that it computes."""
        (arm,) = setting.arms
        return await correctness.check_peer(self, arm, chosen, setting.model.vocabulary)

    def facts(self) -> dict[str, Any]:
        """Whose code it is, and what it has stored."""
        sizes = self.sizes()
        return {"peer": {"package": self.peer.package or "vllm", "files": len(sizes), "stored_bytes": sum(sizes)}}

    async def prime(self, heads: Sequence[Sequence[int]], namespace: str) -> None:
        """Compute all heads, then read each back until it hits. Raises RunError if one never does."""
        for tokens in heads:
            outcome = await self.send("", tokens, 1, namespace, hit=0, save=True)
            if outcome.error:
                raise RunError(f"priming failed: {outcome.error}")
        for tokens in heads:
            await self._until_hit(tokens, namespace)

    async def _until_hit(self, tokens: Sequence[int], namespace: str) -> None:
        """One token more makes the whole head a hit: the last token of a prompt is always computed."""
        whole = self.peer.primes_prompts
        asked = tokens if whole else [*tokens, tokens[0]]
        end = time.monotonic() + SETTLE_S
        while True:
            again = await self.send("", asked, 1, namespace, hit=0, save=False)
            if again.error:
                raise RunError(f"priming failed: {again.error}")
            if (again.cached_tokens or 0) > 0 if whole else again.cached_tokens == len(tokens):
                return
            if time.monotonic() > end:
                raise RunError(
                    f"it does not give back what it stored: of {len(tokens)} tokens that were computed {SETTLE_S:.0f} s ago "
                    f"or earlier, {again.cached_tokens or 0} hit; vllm.log of this arm says more"
                )
            await asyncio.sleep(ASK_AGAIN_S)

    def files(self) -> list[Path]:
        """What the peer keeps on the disk, which may change at any time."""
        return [path for path in self.peer.place.folder.rglob("*") if path.is_file()]

    def sizes(self) -> list[int]:
        """Bytes of each."""
        return [size for path in self.files() if (size := _size(path)) is not None]

    async def drop_page_cache(self, keys: Sequence[str]) -> bool:
        """Of all the peer's files, since nothing says which it will read."""
        return await asyncio.to_thread(self._drop)

    def _drop(self) -> bool:
        left = [_uncached(path) for path in self.files()]
        return bool(left) and all(left)

    def keep_cached(self, keys: Sequence[str]) -> bool:
        """Have all of the peer's files in the page cache; whether they are. True of a peer without files, never of one that
        reads past it."""
        if self.peer.reads_past_cache:
            return False
        cached = [_cached(path) for path in self.files()]  # each, also after one that is not
        return all(cached)

    def close(self, *, keep_store: bool = False) -> None:
        """Stop vLLM; what the peer stored is of no use to anybody else, so it is deleted in any case."""
        try:
            self.engine.close()
        finally:
            shutil.rmtree(self.peer.place.folder, ignore_errors=True)


def _cached(path: Path) -> bool:
    """Bring all of a file into the page cache; whether it is there. A file that is gone counts as there."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        fill(file.fileno())
        size = os.fstat(file.fileno()).st_size
        return resident_pages(file.fileno(), size) == -(-size // PAGE)
    return True


def _uncached(path: Path) -> bool:
    """Drop a file from the page cache; whether all of it is gone."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        drop(file.fileno())
        return resident_pages(file.fileno(), os.fstat(file.fileno()).st_size) == 0
    return True


def _size(path: Path) -> int | None:
    """Size in bytes; None if it is gone."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return None


@contextlib.asynccontextmanager
async def peer_session(setting: Setting, store: Store, folder: Path, hooks: Hooks, dtype: str) -> AsyncIterator[Session]:
    """A session for an experiment whose one arm is a peer. Raises UsageError or SetupError."""
    arm, *others = setting.arms.values()
    if others or not isinstance(arm, PeerArm):
        raise UsageError(f"the arm {setting.peers[0].name} needs a vLLM of its own: measure it by ttft compare")
    peer = arm.at(place_of(setting, folder))
    hooks.stage(f"starting vLLM ({dtype}) with {arm.name}")
    async with session_with_peer(peer_settings(setting, peer), peer, store, folder) as session:
        yield session


def peer_settings(setting: Setting, peer: Peer) -> EngineSettings:
    """How to start vLLM with a peer's connector: the same model, the same memory, the same limits as with ours."""
    ours = engine_settings(setting, setting.dtype, Path(), save=False)
    return replace(ours, connector={}, peer={"kv_load_failure_policy": ours.load_failure_policy, **_timed(peer.transfer())})


def _timed(transfer: dict[str, Any]) -> dict[str, Any]:
    """The same connector, whose calls are timed. vLLM knows MultiConnector by its name, so that one stays as it is."""
    name, module = transfer["kv_connector"], transfer.get("kv_connector_module_path")
    if name == "MultiConnector":
        return transfer
    return {**transfer, "kv_connector": f"{name}@{module}" if module else name, "kv_connector_module_path": TIMED}


@contextlib.asynccontextmanager
async def session_with_peer(settings: EngineSettings, peer: Peer, store: Store, folder: Path) -> AsyncIterator[PeerSession]:
    """Start the peer's servers and vLLM with its connector. Raises SetupError.

    This process's environment is changed for good: it must be the peer's own.
    """
    peer.check()
    _adopt(peer)
    logs = folder / SPAN_LOG
    logs.mkdir(parents=True, exist_ok=True)
    os.environ[PEER_FOLDER] = str(logs.resolve())
    with _emptied(peer.place.folder), peer.servers():
        engine = InProcessEngine.start(settings, folder / VLLM_LOG)
        session = PeerSession(engine, store, peer, peer.place.chunk_tokens, logs)
        try:
            yield session
        finally:
            session.close()


@contextlib.contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    """A new folder, whatever a run of the same name left there, which would give hits; deleted afterwards, servers included."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _adopt(peer: Peer) -> None:
    """The environment that follows from the options, and no other settings of the peer's but what these name by ``$NAME``."""
    options, wanted = peer.options.model_dump_json(), peer.environment()
    for name in list(os.environ):
        if peer.variables and name.startswith(peer.variables) and f"${name}" not in options:
            del os.environ[name]
    os.environ.update(wanted)
