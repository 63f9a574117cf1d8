"""The half of the connector that lives with vLLM's scheduler: lookups, and the plan of each step."""

import logging
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING

from harness.connector.settings import Arm, ConnectorSettings, RequestParams, parse_params
from harness.connector.step import Load, Note, Step
from harness.connector.tracked import Tracked
from harness.core.chunks import SKIP, ChunkKey, KVGeometry, Layout, chain, for_rank, hit_limit, root
from harness.core.errors import StoreError, UsageError
from harness.engines.base import BetweenSteps, Choice, Offer, Seen
from harness.stores.base import Store

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.request import Request

logger = logging.getLogger("vllm.ttft")

LONGEST_MESSAGE = 500
"""Characters of an error's text in the log."""

KEPT = 8
"""Loads of one way and about one size that an arm chooses by: the newest."""


class SchedulerSide:
    """Answers vLLM's scheduler and plans what the workers do."""

    def __init__(
        self,
        settings: ConnectorSettings,
        arms: Mapping[str, Arm],
        store: Store,
        identity: Mapping[str, object],
        chunk_blocks: int,
        world: int,
        window: int = 0,
        proof_steps: int = 1,
        geometry: KVGeometry | None = None,
        step_tokens: int = 0,
    ) -> None:
        """``identity`` is what goes into the root of the keys, but for the namespace and what only workers know.

        ``window``: tokens that vLLM keeps of a request; 0: all. ``proof_steps``: steps after a load until its tokens have
        left for sure: 1, or 2 where vLLM begins a step before it hands out the tokens of the one before. ``geometry``: of a
        chunk, and ``step_tokens``: that a step computes at most, for arms that choose how to load.
        """
        self._settings = settings
        self._arms = arms
        self._store = store
        self._identity = dict(identity)
        self._chunk = settings.chunk_tokens
        self._chunk_blocks = chunk_blocks
        self._world = world
        self._window = window
        self._proof_steps = proof_steps
        self._tracked: dict[str, Tracked] = {}
        self._forget: list[str] = []
        self._begin: list[str] = []
        self._drop: list[str] = []
        self._seen: dict[str, dict[tuple[str, int], deque[Seen]]] = {}
        self._loads: Counter[str] = Counter()
        self._shape = (geometry.layers, Layout(geometry).layer_stride) if geometry is not None else (0, 0)
        self._step_tokens = step_tokens
        self._asked: Counter[str] = Counter()
        self._choices: Counter[tuple[str, str]] = Counter()
        self._told: set[str] = set()

    def know(self, more: Mapping[str, object]) -> None:
        """What the workers tell that belongs in the root of the keys too. Before the first request."""
        self._identity |= more

    def matched_tokens(self, request: "Request", computed_tokens: int) -> int:
        """Tokens beyond ``computed_tokens`` that the arm grants as a hit. Asks the store once a request."""
        tracked = self._tracked.get(request.request_id)
        if tracked is None:
            tracked = self._tracked[request.request_id] = self._known(request)
        hit = tracked.hit * self._chunk
        if hit <= computed_tokens:
            return 0
        tracked.skip_tokens = computed_tokens
        return hit - computed_tokens

    def between_steps(self, request: "Request") -> bool:
        """Whether its hit is loaded between steps: vLLM then keeps it out of its steps until the workers have released it."""
        tracked = self._tracked.get(request.request_id)
        return tracked is not None and tracked.choice.between_steps

    def _known(self, request: "Request") -> Tracked:
        """Its lookup. Whatever a request holds, an error here would end vLLM's engine and every other request with it."""
        try:
            return self._look_up(request)
        except Exception as error:  # noqa: BLE001  see above: clients choose token ids, salts and parameters
            logger.error("request %s is computed without the store: %s", request.request_id, short(error))
            return Tracked(RequestParams(arm=next(iter(self._arms))), [], may_save=False)

    def _look_up(self, request: "Request") -> Tracked:
        params = self._params(request)
        prompt = request.prompt_token_ids or []
        start = time.perf_counter()
        save = self._settings.save if params.save is None else params.save
        arm = self._arms[params.arm]
        # A hit whose KV was never loaded leaves garbage behind it: nothing of that may be stored.
        save = save and (arm.engine.loads_kv or not arm.engine.grants_hits)
        if not (save or arm.engine.grants_hits) or not _tokens_tell_all(request):
            return Tracked(params, [], may_save=False)
        keys = chain(self._root(params, request.cache_salt), prompt, self._chunk)
        tracked = Tracked(params, keys, stored=0 if save else len(keys), may_save=save, window=self._window)
        if arm.engine.grants_hits:
            limit = hit_limit(len(prompt), self._chunk)
            if params.max_hit_tokens is not None:
                limit = min(limit, params.max_hit_tokens)
            tracked.present = self._present(keys[: limit // self._chunk])
            tracked.stored = max(tracked.stored, tracked.present)
            tracked.choice = self._chosen(arm, tracked.present, len(prompt))
            tracked.hit = min(max(tracked.choice.chunks, 0), tracked.present)
            tracked.rest = len(prompt) - tracked.hit * self._chunk
            tracked.lookup_s = (start, time.perf_counter())
        return tracked

    def _chosen(self, arm: Arm, present: int, prompt_tokens: int) -> Choice:
        """What the arm makes of the chunks that are present."""
        if not present:
            return Choice(0)
        seen = sorted((one for loads in self._seen.get(arm.name, {}).values() for one in loads), key=attrgetter("number"))
        if not seen and arm.engine.adapts(arm.options) and arm.name not in self._told:
            self._told.add(arm.name)
            logger.info("arm %s has measured no load yet, so it cannot choose how much of a hit to load", arm.name)
        beside = [other for other in self._tracked.values() if other.load_pending]
        offer = Offer(
            present,
            self._chunk,
            prompt_tokens,
            seen,
            *self._shape,
            self._asked[arm.name],
            sum(other.hit - other.skip_tokens // self._chunk for other in beside),
            sum(other.rest for other in beside),
            self._step_tokens,
            len(self._tracked),
        )
        choice = arm.engine.choose(arm.options, offer)
        self._asked[arm.name] += 1
        if choice.how:
            self._choices[arm.name, choice.how.partition(":")[0]] += 1
        return replace(choice, between_steps=choice.between_steps and issubclass(arm.engine, BetweenSteps))

    def take_choices(self) -> Mapping[tuple[str, str], int]:
        """How often each arm chose which way, since the last call; of arms that choose."""
        choices, self._choices = self._choices, Counter()
        return choices

    def saw(self, loads: Mapping[str, Seen]) -> None:
        """What the workers' loads of one step showed, by arm: later requests of the arm may be served by it."""
        for name, seen in loads.items():
            alike = seen.way, seen.chunks.bit_length()
            numbered = replace(seen, number=self._loads[name])
            self._loads[name] += 1
            self._seen.setdefault(name, {}).setdefault(alike, deque(maxlen=KEPT)).append(numbered)

    def _params(self, request: "Request") -> RequestParams:
        try:
            return parse_params(request.kv_transfer_params, self._arms)
        except UsageError as error:
            # A request must not take the server down: it is served without a hit, and says why.
            logger.error("request %s is computed without the store: %s", request.request_id, short(error))
            return RequestParams(arm=next(iter(self._arms)), max_hit_tokens=0, save=False)

    def _root(self, params: RequestParams, salt: str | None) -> bytes:
        """Not kept: namespaces and salts come with requests, so a cache of them would grow for ever."""
        namespace = self._settings.namespace if params.namespace is None else params.namespace
        salted = {"salt": salt} if salt else {}  # vLLM's own: requests with other salts must not share KV
        return root({**self._identity, "namespace": namespace, **salted})

    def _present(self, keys: Sequence[ChunkKey]) -> int:
        """Chunks from the first on that every rank can load, in one question to the store."""
        try:
            parts = [for_rank(key, rank, self._world) for key in keys for rank in range(self._world)]
            return self._store.exists(parts) // self._world if parts else 0
        except StoreError as error:
            logger.error("the lookup failed and counts as a miss: %s", error)
            return 0

    def allocated(self, request: "Request", external_tokens: int, blocks: Sequence[int] = ()) -> None:
        """Note that vLLM reserved ``blocks``; with external tokens there is something to load, from the coming step on."""
        tracked = self._tracked.get(request.request_id)
        if tracked is None:
            return
        between = external_tokens > 0 and tracked.choice.between_steps
        tracked.load_pending = external_tokens > 0 and not between
        if between:
            tracked.begin(blocks)
            tracked.loading, tracked.failed = True, False
            self._begin.append(request.request_id)

    def plan(self, output: "SchedulerOutput") -> Step:
        """What the workers do in the coming step."""
        step = Step(forget=self._forget, drops=self._drop, tokens=sum(output.num_scheduled_tokens.values()))
        self._forget, self._drop = [], []
        self._begin_loads(step)
        for new in output.scheduled_new_reqs:
            tracked = self._tracked.get(new.req_id)
            step.fresh.extend(self._fresh(tracked, new.block_ids[0], new.num_computed_tokens))
            if tracked is not None:
                tracked.begin(new.block_ids[0])
                self._extend(step, new.req_id, tracked, new.num_computed_tokens, output.num_scheduled_tokens[new.req_id])
        cached = output.scheduled_cached_reqs
        for position, request_id in enumerate(cached.req_ids):
            blocks = cached.new_block_ids[position]
            tracked = self._tracked.get(request_id)
            if blocks:
                before = cached.num_computed_tokens[position] if request_id in cached.resumed_req_ids else 0
                step.fresh.extend(self._fresh(tracked, blocks[0], before))
            if tracked is None:
                continue
            if request_id in cached.resumed_req_ids:
                tracked.begin(blocks[0] if blocks else [])
            elif blocks:
                tracked.blocks.extend(blocks[0])
            scheduled = output.num_scheduled_tokens[request_id]
            self._extend(step, request_id, tracked, cached.num_computed_tokens[position], scheduled)
        return step

    def _begin_loads(self, step: Step) -> None:
        begin, self._begin = self._begin, []
        for request_id in begin:
            tracked = self._tracked[request_id]
            load = Load(tracked.params.arm, tracked.load(request_id, self._chunk, self._chunk_blocks), tracked.params.label)
            step.begins.append(load)
            step.fresh.extend(block for block in load.request.blocks if block != SKIP)

    def _fresh(self, tracked: Tracked | None, blocks: Sequence[int], computed_tokens: int) -> Sequence[int]:
        """Those of a request's new blocks that will be written: not the ones that vLLM's own prefix cache has filled."""
        local = tracked.skip_tokens if tracked is not None and tracked.load_pending else computed_tokens
        return blocks[local * self._chunk_blocks // self._chunk :]

    def _extend(self, step: Step, request_id: str, tracked: Tracked, computed: int, scheduled: int) -> None:
        """Add one request's work to the step, before which ``computed`` tokens are in the cache."""
        label = tracked.params.label
        if label and tracked.lookup_s is not None and not tracked.noted:
            choice, found = tracked.choice, tracked.present * self._chunk
            hit = min(max(choice.chunks, 0) * self._chunk, found)
            step.notes.append(Note(label, *tracked.lookup_s, hit, found, choice.how, choice.why, choice.between_steps))
            tracked.noted = True
        if tracked.proof_due == 1:
            step.prove.append(request_id)
            if freed := tracked.freed(computed, self._chunk // self._chunk_blocks):
                step.freed[request_id] = freed - tracked.loaded_from * self._chunk_blocks
        tracked.proof_due = max(0, tracked.proof_due - 1)
        if tracked.loading:
            step.joins.append(request_id)
            tracked.loading = False
            tracked.proof_due = self._proof_steps if label and not tracked.failed else 0
        if tracked.load_pending:
            step.loads.append(Load(tracked.params.arm, tracked.load(request_id, self._chunk, self._chunk_blocks), label))
            tracked.load_pending = False
            tracked.proof_due = self._proof_steps if label else 0
        step.saves.extend(tracked.saves(request_id, computed, computed + scheduled, self._chunk, self._chunk_blocks))

    def load_errors(self, invalid: set[int]) -> None:
        """Blocks that the workers could not fill."""
        for request_id, tracked in self._tracked.items():
            tracked.fail(invalid, self._chunk_blocks)
            if tracked.loading and tracked.failed and invalid.intersection(tracked.blocks[:1]):
                # vLLM takes all blocks from a request whose first one failed, and other ranks may still be writing to them.
                tracked.loading, tracked.blocks = False, []
                self._drop.append(request_id)

    def finished(self, request: "Request") -> None:
        """The request is over; its blocks may be reused from now on."""
        tracked = self._tracked.pop(request.request_id, None)
        # Also after a proof, since a rank may still keep a record: a load that failed on another rank is never proven.
        if tracked is not None and tracked.loading:
            self._drop.append(request.request_id)
        if tracked is not None and tracked.params.label and tracked.choice.chunks:
            self._forget.append(request.request_id)


def short(error: Exception) -> str:
    """Its message on one line of bounded length: it may repeat what a client sent."""
    text = " ".join(str(error)[:LONGEST_MESSAGE].split())
    return f"{type(error).__name__}: {text}"


def _tokens_tell_all(request: "Request") -> bool:
    """Whether equal tokens mean equal KV: not with images or other inputs behind them, nor with an adapter."""
    return not request.mm_features and request.lora_request is None and request.prompt_embeds is None
