"""What the scheduler's side sees of vLLM, without vLLM: requests, step outputs, and a scheduler that hands out blocks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from harness.connector.scheduler_side import SchedulerSide
from harness.connector.settings import Arm, ConnectorSettings, parse_settings
from harness.connector.step import Step
from harness.core.chunks import ChunkKey, chain, for_rank, root
from harness.core.errors import StoreError
from harness.stores.base import Buffer, Read, Store, StoreOptions

BLOCK = 4
PER = 2
CHUNK = BLOCK * PER
ARMS = ("chunkwise:pool=0", "layerwise:depth=2", "recompute", "floor")
IDENTITY: Mapping[str, object] = {"model": "tiny", "format": 1}


class DictStore(Store):
    """Objects in a dict; notes each lookup, and fails where it is told to."""

    def __init__(self) -> None:
        self.url = "dict://"
        self.options = StoreOptions()
        self.data: dict[str, bytes] = {}
        self.lookups: list[tuple[str, ...]] = []
        self.broken: StoreError | None = None

    def exists(self, keys: Sequence[str]) -> int:
        self.lookups.append(tuple(keys))
        if self.broken is not None:
            raise self.broken
        return next((i for i, key in enumerate(keys) if key not in self.data), len(keys))

    def read(self, reads: Sequence[Read]) -> None:
        raise NotImplementedError

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        self.data[key] = b"".join(parts)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.data.pop(key, None)

    def keys(self) -> Iterator[str]:
        return iter(list(self.data))


def make_request(request_id: str, tokens: Sequence[int] | None, params: Any = None, **more: Any) -> Any:
    """A request as vLLM's scheduler holds it, as far as the connector looks."""
    plain = {"mm_features": [], "lora_request": None, "prompt_embeds": None, "cache_salt": None, **more}
    token_ids = None if tokens is None else list(tokens)
    return SimpleNamespace(request_id=request_id, prompt_token_ids=token_ids, kv_transfer_params=params, **plain)


@lru_cache
def _parsed(arms: tuple[str, ...], settings: frozenset[tuple[str, Any]]) -> tuple[ConnectorSettings, dict[str, Arm]]:
    return parse_settings({"store": "dict://", "arms": list(arms), "chunk_tokens": CHUNK, **dict(settings)})


def make_side(store: Store, world: int = 1, arms: tuple[str, ...] = ARMS, **settings: Any) -> SchedulerSide:
    return SchedulerSide(*_parsed(arms, frozenset(settings.items())), store, IDENTITY, PER, world)


def keys_of(tokens: Sequence[int], namespace: str = "", **more: object) -> list[ChunkKey]:
    """The keys that the side must give to the whole chunks of ``tokens``."""
    return chain(root({**IDENTITY, "namespace": namespace, **more}), tokens, CHUNK)


def put(store: DictStore, keys: Iterable[ChunkKey], world: int = 1) -> None:
    for key in keys:
        for rank in range(world):
            store.data[for_rank(key, rank, world)] = b"stored"


def make_output(
    new: Sequence[Any] = (),
    cached: Sequence[tuple[str, tuple[list[int], ...] | None, int]] = (),
    resumed: Iterable[str] = (),
    scheduled: Mapping[str, int] | None = None,
) -> Any:
    """A SchedulerOutput; ``cached`` are (request, new blocks, computed tokens)."""
    cached_data = SimpleNamespace(
        req_ids=[item[0] for item in cached],
        resumed_req_ids=set(resumed),
        new_block_ids=[item[1] for item in cached],
        num_computed_tokens=[item[2] for item in cached],
    )
    return SimpleNamespace(
        scheduled_new_reqs=list(new), scheduled_cached_reqs=cached_data, num_scheduled_tokens=dict(scheduled or {})
    )


@dataclass
class Live:
    """One request in the stand-in scheduler. ``computed`` counts tokens whose KV is in its blocks."""

    request: Any
    computed: int = 0
    blocks: list[int] = field(default_factory=list)
    running: bool = False
    seen: bool = False


class Scheduler:
    """Hands out blocks and tokens as vLLM's scheduler does, and tells the side about it."""

    def __init__(self, side: SchedulerSide, blocks: int = 200) -> None:
        self.side = side
        self.live: dict[str, Live] = {}
        self._free = list(range(blocks))

    def add(self, request: Any) -> Live:
        live = self.live[request.request_id] = Live(request)
        return live

    def step(self, scheduled: Mapping[str, int], local: Mapping[str, Sequence[int]] | None = None) -> Step:
        """Schedule so many tokens of each request. ``local``: blocks that vLLM's own prefix cache gives a starting one."""
        new, cached, resumed = [], [], []
        for name, count in scheduled.items():
            live = self.live[name]
            starts = not live.running
            if starts:
                self._start(live, list((local or {}).get(name, ())))
            fresh = self._grow(live, count)
            if starts and not live.seen:
                new.append(SimpleNamespace(req_id=name, block_ids=(list(live.blocks),), num_computed_tokens=live.computed))
            else:
                resumed += [name] if starts else []
                blocks = live.blocks if starts else fresh
                cached.append((name, (list(blocks),) if blocks else None, live.computed))
            live.running = live.seen = True
        step = self.side.plan(make_output(new, cached, resumed, scheduled))
        for name, count in scheduled.items():
            self.live[name].computed += count
        return step

    def _start(self, live: Live, local: list[int]) -> None:
        live.blocks = local
        granted = self.side.matched_tokens(live.request, len(local) * BLOCK)
        live.computed = len(local) * BLOCK + granted
        self._grow(live, 0)
        self.side.allocated(live.request, granted)

    def _grow(self, live: Live, count: int) -> list[int]:
        fresh = [self._free.pop(0) for _ in range(-(-(live.computed + count) // BLOCK) - len(live.blocks))]
        live.blocks.extend(fresh)
        return fresh

    def preempt(self, name: str) -> None:
        """Take a running request's blocks away; the next one gets them first."""
        live = self.live[name]
        self._free = [*live.blocks, *self._free]
        live.blocks, live.computed, live.running = [], 0, False

    def fail(self, invalid: set[int], running: Iterable[str]) -> None:
        """Loads of these blocks failed in the last step: what vLLM does under the policy ``recompute``."""
        self.side.load_errors(invalid)
        for name in running:
            live = self.live[name]
            first = next((i for i, block in enumerate(live.blocks) if block in invalid), None)
            if first is not None:
                live.computed = first * BLOCK

    def finish(self, name: str) -> None:
        live = self.live.pop(name)
        self._free.extend(live.blocks)
        self.side.finished(live.request)
