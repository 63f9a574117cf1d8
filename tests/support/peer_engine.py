"""Stands in for vLLM with a peer's connector: it hits what it was given, by blocks of 16, and computes nothing."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fake_engine import CHUNK, MODEL, SHORT

from harness.connector.peers.arm import parse_peer
from harness.connector.peers.base import Peer, Place
from harness.experiment import at_peer as peer_session
from harness.experiment.at_peer import PeerSession
from harness.experiment.conduct import measure
from harness.experiment.hooks import Hooks
from harness.experiment.plan import Setting, settle
from harness.experiment.settings import merge
from harness.replay.in_process import EngineSettings
from harness.replay.outcome import Outcome
from harness.results import Measurement, load
from harness.stores.base import open_store

SAVES_NOT = "lmcache.skip_save"


@dataclass
class Asked:
    """One request as the engine is about to answer it; ``tamper`` may change ``hit``, ``tokens`` and ``error``."""

    tokens: tuple[int, ...]
    params: dict[str, Any]
    hit: int
    output: list[int]
    error: str = ""


@dataclass
class PeerEngine:
    """``behind``: a prompt can be hit only when that many requests came after it. ``whole``: only the same prompt hits."""

    whole: bool = False
    behind: int = 0
    files: Path | None = None
    tamper: Callable[[Asked], None] = lambda asked: None
    asked: list[Asked] = field(default_factory=list)
    settings: EngineSettings | None = None
    closed: int = 0
    _saved: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)

    def start(self, settings: EngineSettings, log: Path) -> "PeerEngine":
        """In the place of ``InProcessEngine.start``."""
        self.settings = settings
        return self

    async def generate(
        self,
        request_id: str,
        tokens: Sequence[int],
        output_tokens: int,
        params: Mapping[str, Any],
        heard: Callable[[float], None] | None = None,
    ) -> Outcome:
        sent = time.perf_counter()
        await asyncio.sleep(0)
        output = [(sum(tokens) + i) % 256 for i in range(output_tokens)]
        asked = Asked(tuple(tokens), dict(params), self._hit(tuple(tokens)), output)
        self.asked.append(asked)
        self.tamper(asked)
        if not params.get(SAVES_NOT):
            self._save(tuple(tokens))
        if asked.error:
            return Outcome(sent, error=asked.error)
        return Outcome(sent, sent + 0.02, sent + 0.03, tuple(asked.output), asked.hit, 0.019, 0.001, 0.015)

    def _hit(self, tokens: tuple[int, ...]) -> int:
        known = [one for number, one in self._saved if number + self.behind < len(self.asked)]
        limit = (len(tokens) - 1) // CHUNK * CHUNK
        if self.whole:
            return limit if tokens in known else 0
        return max((hit for hit in range(0, limit + 1, CHUNK) for one in known if one[:hit] == tokens[:hit]), default=0)

    def _save(self, tokens: tuple[int, ...]) -> None:
        self._saved.append((len(self.asked) - 1, tokens))
        if self.files is not None:
            (self.files / f"{len(self._saved)}.pt").write_bytes(b"k" * 5000)

    def close(self) -> None:
        self.closed += 1


@dataclass
class PeerLab:
    """One peer below a temporary folder."""

    home: Path
    engine: PeerEngine = field(default_factory=PeerEngine)

    @property
    def place(self) -> Place:
        return Place(self.home / "kv" / "peers" / "1", CHUNK)

    @property
    def store_url(self) -> str:
        return f"file://{self.home / 'kv'}"

    def peer(self, spec: str) -> Peer:
        return parse_peer(spec).at(self.place)

    def session(self, spec: str = "lmcache") -> PeerSession:
        self.place.folder.mkdir(parents=True, exist_ok=True)
        self.engine.files = self.place.folder
        return PeerSession(self.engine, open_store(self.store_url), self.peer(spec), CHUNK, self.home / "span_log")

    def setting(self, arm: str, **changes: Any) -> Setting:
        """A small experiment with this arm alone."""
        wanted = {"workload": SHORT, "store": self.store_url, "arms": [arm], "model": MODEL, "bounds": False}
        wanted |= {"dtype": "float32", "pairs": 2, "chunk_tokens": CHUNK, "correctness_prompts": 1, **changes}
        return settle(merge(wanted))

    def measure(self, arm: str, **changes: Any) -> Measurement:
        """A whole experiment, as the peer's own process carries it out."""
        measure(self.setting(arm, **changes), self.home / "run", "ttft compare", Hooks())
        return load(self.home / "run")

    def left(self) -> list[Path]:
        """Files below the store's folder."""
        return [path for path in (self.home / "kv").rglob("*") if path.is_file()]


@pytest.fixture
def peer_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PeerLab:
    made = PeerLab(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("harness.connector.peers.base.version", lambda package: "0.5.6")
    monkeypatch.setattr(peer_session, "InProcessEngine", made.engine)
    monkeypatch.setattr(peer_session, "ASK_AGAIN_S", 0.0)
    monkeypatch.setattr(peer_session, "SETTLE_S", 30.0)
    return made
