"""The cache state of each run, and the order of runs. Pure.

What the store holds when a request comes decides its hit: the hits that follow, and what to run to get there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from harness.connector.peers.arm import PeerArm
from harness.connector.settings import Arm
from harness.core.chunks import ChunkKey, chain, hit_limit, whole_chunks
from harness.core.errors import UsageError, known
from harness.engines.base import Offer
from harness.workloads.base import DataSet
from harness.workloads.ideal import SeenChunks

CacheState = Literal["primed", "natural"]


def expected_hits(data: DataSet, state: CacheState, chunk_tokens: int) -> list[int]:
    """Tokens that each prompt must hit, in the data's order: whole chunks, with at least one token left to compute.

    In ``primed`` other prompts may need more of a prompt's chunks stored than it is to hit (a later turn
    stores the earlier turn's whole prompt): whoever grants hits must also cap them at this number.
    Raises UsageError for an unknown state.
    """
    if state not in get_args(CacheState):
        raise known("cache state", state, list(get_args(CacheState)))
    limits = [hit_limit(len(prompt.tokens), chunk_tokens) for prompt in data.prompts]
    if state == "primed":
        stored = [whole_chunks(prompt.prefix_tokens, chunk_tokens) for prompt in data.prompts]
    else:
        seen = SeenChunks(chunk_tokens)
        stored = [seen.visit(prompt.tokens) for prompt in data.prompts]
    return [min(pair) for pair in zip(limits, stored, strict=True)]


def hit_by(arm: Arm | PeerArm, workload_hit: int, chunk_tokens: int, prompt_tokens: int, granted: int | None) -> int:
    """Tokens that ``arm`` must hit of a prompt that can hit ``workload_hit``.

    An arm may take fewer. One that chooses by what it has measured must hit what it was ``granted``, if that is whole chunks
    of what the workload implies, one at least; anything else is held against the workload's hit.
    """
    if not arm.engine.grants_hits or not workload_hit:
        return 0
    if isinstance(arm, PeerArm):
        return workload_hit
    if arm.engine.adapts(arm.options):
        chosen = granted is not None and 0 < granted <= workload_hit and granted % chunk_tokens == 0
        return granted if chosen and granted is not None else workload_hit
    offer = Offer(workload_hit // chunk_tokens, chunk_tokens, prompt_tokens)
    return arm.engine.choose(arm.options, offer).chunks * chunk_tokens


def priming_plan(data: DataSet, hits: Sequence[int], chunk_tokens: int) -> list[tuple[int, ...]]:
    """The fewest prompts whose chunks are all chunks of each prompt's first ``hits[i]`` tokens, and no others.

    Each is a whole number of chunks and none is the head of another. They are sorted, so that those with a
    common head follow one another: the head is computed once, and the next ones can hit it.
    Raises UsageError if a hit is not whole chunks of its prompt.
    """
    heads = []
    for prompt, hit in zip(data.prompts, hits, strict=True):
        if hit % chunk_tokens or not 0 <= hit <= len(prompt.tokens):
            raise UsageError(
                f"prompt {prompt.id} of {len(prompt.tokens)} tokens cannot hit {hit}: not whole chunks of {chunk_tokens} in it"
            )
        if hit:
            heads.append(prompt.tokens[:hit])
    heads.sort()
    # Sorted, whatever lies between a head and a longer one that begins with it begins with it as well:
    # looking at the next is enough.
    return [head for head, after in pairwise([*heads, ()]) if after[: len(head)] != head]


def distinct_chunks(token_lists: Iterable[Sequence[int]], chunk_tokens: int) -> int:
    """Chunks that a store holds once all whole chunks of all ``token_lists`` are in it; shared ones count once.

    Of ``priming_plan`` it is what priming writes; of all prompts, what a ``natural`` run writes.
    """
    keys: set[ChunkKey] = set()
    for tokens in token_lists:
        keys.update(chain(bytes(16), tokens, chunk_tokens))
    return len(keys)


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One replay of the workload by one arm."""

    run: int
    round: int
    arm: str


def rounds_of(count: int, rounds: int) -> frozenset[int]:
    """``count`` of ``rounds`` rounds, evenly spread; with count > 1 the first and the last are among them."""
    if count >= rounds:
        return frozenset(range(rounds))
    if count == 1:
        return frozenset({0})
    return frozenset(round(i * (rounds - 1) / (count - 1)) for i in range(count))


def schedule(arms: Sequence[str], rounds: int, sparse: Sequence[str] = (), sparse_rounds: int = 2) -> list[PlannedRun]:
    """All runs in time order; the ``sparse`` arms take part in ``sparse_rounds`` rounds only."""
    chosen = rounds_of(sparse_rounds, rounds)
    runs: list[PlannedRun] = []
    for number in range(rounds):
        taking_part = [arm for arm in arms if arm not in sparse or number in chosen]
        for arm in taking_part if number % 2 == 0 else reversed(taking_part):
            runs.append(PlannedRun(len(runs), number, arm))
    return runs
