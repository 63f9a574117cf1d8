"""Stands in for vLLM with the connector: it serves at once, over a real store, and writes the connector's span log."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
import xxhash

from harness.connector.settings import Arm, parse_arm
from harness.core.chunks import ChunkKey, KVGeometry, chain, for_rank, hit_limit, root
from harness.engines.base import Offer
from harness.experiment import session
from harness.experiment.conduct import measure
from harness.experiment.hooks import Hooks
from harness.experiment.plan import Setting, settle
from harness.experiment.record import NOTHING, Earlier
from harness.experiment.settings import merge
from harness.replay.in_process import EngineSettings
from harness.replay.models import fingerprint
from harness.replay.outcome import Outcome
from harness.results import Measurement, load
from harness.stores.base import Store, open_store

MODEL = "builtin:layers=2,hidden=64,intermediate=64,vocabulary=256"
LAYERS = 2
CHUNK = 16
CHUNKWISE, LAYERWISE = "chunkwise:pool=0", "layerwise:depth=2"
SHORT = "shared_prefix:groups=2,prefix=32,suffix=5,prompts=2,output=3"


@dataclass
class Served:
    """One request as the fake is about to answer it; a test's ``tamper`` may change all but the first four."""

    arm: str
    label: str
    namespace: str
    prompt: tuple[int, ...]
    hit: int
    cached_tokens: int | None
    tokens: list[int]
    proof: list[tuple[str, int, int]]
    failed_blocks: int = 0
    loads: bool = True
    saves: bool = True
    save_error: str = ""
    error: str = ""
    ttft_s: float = 0.02

    @property
    def timed(self) -> bool:
        """Whether this is one of the requests that are measured."""
        return bool(self.label) and not self.label.startswith("correctness")


@dataclass
class FakeVllm:
    """What stands in the place of ``InProcessEngine``."""

    tamper: Callable[[Served], None] = lambda served: None
    mute: bool = False
    neighbour_error: str = ""
    served: list[Served] = field(default_factory=list)
    engines: list["FakeEngine"] = field(default_factory=list)
    contents: dict[str, str] = field(default_factory=dict)
    """What each chunk's KV is made from: its key without the namespace, for equal tokens have equal KV in every one."""

    def start(self, settings: EngineSettings, log: Path) -> "FakeEngine":
        self.engines.append(FakeEngine(self, settings))
        return self.engines[-1]

    @property
    def timed(self) -> list[Served]:
        return [one for one in self.served if one.timed]


class FakeEngine:
    """Answers requests as vLLM with the connector does, but computes nothing."""

    def __init__(self, vllm: FakeVllm, settings: EngineSettings) -> None:
        self.settings = settings
        self.world = settings.tensor_parallel
        self.closed = False
        self._vllm = vllm
        self._store = open_store(settings.connector["store"])
        self._identity = {"model": fingerprint(settings.model), "dtype": settings.dtype, "world": self.world}
        self._arms: dict[str, Arm] = {text: parse_arm(text) for text in settings.connector["arms"]}
        self._chunk: int = settings.connector["chunk_tokens"]
        if not vllm.mute:
            geometry = KVGeometry(LAYERS, self._chunk, 64, 1, settings.dtype)
            start = {"kind": "start", "geometry": asdict(geometry), "identity": self._identity, "blocks": 64}
            self._write(0, start | {"direct": True, "torch_threads": 2})

    def _write(self, rank: int, record: Mapping[str, Any]) -> None:
        path = Path(self.settings.connector["span_log"]) / f"worker-{rank}.jsonl"
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def _present(self, keys: Sequence[ChunkKey]) -> int:
        count = len(keys)
        for rank in range(self.world):
            count = self._store.exists([for_rank(key, rank, self.world) for key in keys[:count]])
        return count

    async def generate(
        self,
        request_id: str,
        tokens: Sequence[int],
        output_tokens: int,
        params: Mapping[str, Any],
        heard: Callable[[float], None] | None = None,
    ) -> Outcome:
        assert not self.closed
        sent = time.perf_counter()
        if self._vllm.neighbour_error and params["namespace"] == "neighbours":
            return Outcome(sent, error=self._vllm.neighbour_error)
        for _ in range(output_tokens if heard else 0):
            await asyncio.sleep(0)
            if heard:
                heard(time.perf_counter())
        arm = self._arms[params["arm"]]
        keys = chain(root({**self._identity, "namespace": params["namespace"]}), tokens, self._chunk)
        plain = chain(root(self._identity), tokens, self._chunk)
        for rank in range(self.world):
            pairs = zip(keys, plain, strict=True)
            self._vllm.contents |= {for_rank(key, rank, self.world): for_rank(same, rank, self.world) for key, same in pairs}
        limit = min(hit_limit(len(tokens), self._chunk), params["max_hit_tokens"])
        hit = self._present(keys[: limit // self._chunk]) if arm.engine.grants_hits else 0
        hit = arm.engine.choose(arm.options, Offer(hit, self._chunk, len(tokens))).chunks if hit else 0
        served = Served(
            arm.name,
            params["label"],
            params["namespace"],
            tuple(tokens),
            hit * self._chunk,
            hit * self._chunk,
            self._tokens(tokens, output_tokens, arm),
            _proof(
                [for_rank(key, rank, self.world) for key in keys[:hit] for rank in range(self.world)], arm, self._vllm.contents
            ),
        )
        self._vllm.served.append(served)
        self._vllm.tamper(served)
        await asyncio.sleep(0)
        self._trace(served, arm, sent)
        if params["save"] and (arm.engine.loads_kv or not arm.engine.grants_hits):
            self._save(served, keys)
        if served.error:
            return Outcome(sent, error=served.error)
        return Outcome(
            sent,
            first_s=sent + served.ttft_s,
            last_s=sent + served.ttft_s + 0.01,
            tokens=tuple(served.tokens),
            cached_tokens=served.cached_tokens,
            server_ttft_s=0.019,
            queue_s=0.001,
            prefill_s=0.015,
        )

    def _tokens(self, tokens: Sequence[int], count: int, arm: Arm) -> list[int]:
        """The same by all arms that load. Without the KV they mean nothing, and in bfloat16 recompute may differ."""
        right = arm.engine.loads_kv or (not arm.engine.grants_hits and self.settings.dtype == "float32")
        return [(sum(tokens) + i + (0 if right else 1)) % 256 for i in range(count)]

    def _trace(self, served: Served, arm: Arm, sent: float) -> None:
        if not served.label:
            return
        label = {"label": served.label}
        if arm.engine.grants_hits:
            self._write(0, label | {"kind": "lookup", "start_s": sent, "end_s": sent + 0.001, "hit_tokens": served.hit})
        for rank in range(self.world if served.hit and served.loads else 0):
            moves = arm.engine.loads_kv
            proof = [piece for piece in served.proof if self.world == 1 or piece[0].endswith(f"-r{rank}of{self.world}")]
            self._write(
                rank,
                label
                | {"kind": "load", "rank": rank, "arm": served.arm, "failed_blocks": served.failed_blocks, "proof": proof}
                | {"start_s": sent + 0.002 if moves else None, "end_s": sent + 0.006 if moves else None}
                | {"stall_s": 0.004 if moves else 0.0, "spans": [["fetch", -1, sent + 0.002, sent + 0.006, 64, 1]] * moves}
                | {"operations": 1 * moves, "keys": served.hit // self._chunk * moves, "bytes": 64 * moves},
            )

    def _save(self, served: Served, keys: Sequence[ChunkKey]) -> None:
        for rank in range(self.world):
            for key in (for_rank(key, rank, self.world) for key in keys):
                if self._store.exists([key]) or not served.saves:
                    continue
                if served.save_error:
                    self._write(rank, {"kind": "save_error", "key": key, "error": served.save_error})
                    return
                self._store.write(key, [b"KV of ", key.encode()])
                checksums = [digest(self._vllm.contents[key], layer) for layer in range(LAYERS)]
                self._write(rank, {"kind": "save", "key": key, "start_s": 0.0, "end_s": 0.1, "checksums": checksums})

    def close(self) -> None:
        self.closed = True
        self._store.close()


def digest(key: str, layer: int) -> int:
    """The checksum of one layer of a chunk."""
    return xxhash.xxh3_64_intdigest(f"{key}/{layer}".encode())


def _proof(keys: Sequence[str], arm: Arm, contents: Mapping[str, str]) -> list[tuple[str, int, int]]:
    """The diagonal that the worker samples; an arm that moves nothing leaves garbage in the blocks."""
    diagonal = range(max(len(keys), LAYERS) if keys else 0)
    found = [(keys[i % len(keys)], i % LAYERS) for i in diagonal]
    return [(key, layer, digest(contents[key], layer) if arm.engine.loads_kv else 0) for key, layer in found]


@dataclass
class Lab:
    """An experiment below a temporary folder, over the fake."""

    home: Path
    vllm: FakeVllm
    last: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Of the run."""
        return self.home / "run"

    @property
    def store_url(self) -> str:
        return f"file://{self.home / 'kv'}"

    def setting(self, **changes: Any) -> Setting:
        small = {"workload": SHORT, "store": self.store_url, "arms": [CHUNKWISE, LAYERWISE], "model": MODEL}
        fast = {"dtype": "float32", "pairs": 3, "chunk_tokens": CHUNK, "correctness_prompts": 1}
        return settle(merge(small, fast, changes))

    def measure(self, earlier: Earlier = NOTHING, **changes: Any) -> Measurement:
        """Carry it out and read back what is on disk."""
        self.last = measure(self.setting(**changes), self.folder, "ttft compare", Hooks(), earlier)
        return self.run()

    def run(self) -> Measurement:
        return load(self.folder)

    def left(self) -> set[str]:
        """Keys that are in the store."""
        with self.open() as store:
            return set(store.keys())

    def open(self) -> Store:
        return open_store(self.store_url)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    vllm = FakeVllm()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(session, "InProcessEngine", vllm)
    return Lab(tmp_path, vllm)
