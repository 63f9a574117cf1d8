"""What the scheduler's side knows about one request. Pure but for its own state."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.connector.settings import RequestParams
from harness.connector.step import Save
from harness.core.chunks import SKIP, ChunkKey, LoadRequest
from harness.engines.base import Choice


@dataclass(slots=True)
class Tracked:
    """A request from its first lookup until it has finished.

    ``keys``: of the prompt's whole chunks, without rank. ``hit``: chunks that the lookup granted,
    ``present``: those that it found, of which the arm may take fewer, as its ``choice`` says; ``rest``: tokens behind the hit.
    ``loading``: a load between steps has begun for it, and it has not computed since; ``failed``: that load failed.
    ``loaded_from``: the first chunk of the last load. ``stored``: chunks from the first on that need no
    save. ``may_save``: false where nothing of this request may be saved, whatever happens. ``replace``:
    a load failed, so what the store holds of the chunks that are saved from now on is bad, or was
    computed on what is bad. ``proof_due``: steps from now on until what was loaded is digested; 0:
    nothing is due. ``window``: tokens, the next one among them, that vLLM keeps; 0: all.
    """

    params: RequestParams
    keys: list[ChunkKey]
    hit: int = 0
    present: int = 0
    choice: Choice = field(default_factory=lambda: Choice(0))
    rest: int = 0
    lookup_s: tuple[float, float] | None = None
    noted: bool = False
    blocks: list[int] = field(default_factory=list)
    skip_tokens: int = 0
    load_pending: bool = False
    loading: bool = False
    failed: bool = False
    loaded_from: int = 0
    proof_due: int = 0
    window: int = 0
    stored: int = 0
    may_save: bool = True
    replace: bool = False

    def begin(self, blocks: Sequence[int]) -> None:
        """The request got new blocks for all of its tokens: it is new, or back from preemption."""
        self.blocks = list(blocks)
        self.proof_due = 0  # what was loaded before a preemption is gone

    def freed(self, computed_tokens: int, block_tokens: int) -> int:
        """How many of the first blocks are free again in a step before which so many tokens are computed.

        As in vLLM's SlidingWindowManager: the window ends with the next token, and whole blocks before it are freed.
        """
        return max(0, computed_tokens - self.window + 1) // block_tokens if self.window else 0

    def load(self, request_id: str, chunk_tokens: int, chunk_blocks: int) -> LoadRequest:
        """What to fetch now. Blocks that vLLM's own prefix cache filled are left alone, and those behind the window."""
        block_tokens = chunk_tokens // chunk_blocks
        done = max(self.skip_tokens // block_tokens, self.freed(self.hit * chunk_tokens, block_tokens))
        first = done // chunk_blocks
        blocks = self.blocks[first * chunk_blocks : self.hit * chunk_blocks]
        filled = done - first * chunk_blocks
        self.loaded_from = first
        blocks[:filled] = [SKIP] * filled
        keys = tuple(self.keys[first : self.hit])
        return LoadRequest(request_id, keys, tuple(blocks), self.choice.how, self.params.deadline_ms)

    def saves(self, request_id: str, before: int, computed_tokens: int, chunk_tokens: int, chunk_blocks: int) -> list[Save]:
        """Chunks that are complete once ``computed_tokens`` tokens are in the cache, and not yet stored.

        ``before``: tokens computed before this step. What vLLM has freed by then cannot be saved any more.
        """
        freed = self.freed(before, chunk_tokens // chunk_blocks)
        complete = min(computed_tokens // chunk_tokens, len(self.keys))
        saves = [
            Save(request_id, self.keys[i], tuple(self.blocks[i * chunk_blocks : (i + 1) * chunk_blocks]), self.replace)
            for i in range(self.stored, complete)
            if i * chunk_blocks >= freed
        ]
        self.stored = max(self.stored, complete)
        return saves

    def fail(self, invalid: set[int], chunk_blocks: int) -> None:
        """Blocks that could not be loaded: what follows the first of them is computed, and saved again.

        They may be another request's, shared through vLLM's own prefix cache, so all blocks are looked at. vLLM asks anew
        for a request of which nothing came between steps: it must not be granted again what failed.
        """
        for position, block in enumerate(self.blocks):
            if block in invalid:
                self.proof_due = 0
                if self.loading:
                    self.failed = True
                    self.hit = min(self.hit, position // chunk_blocks)
                if self.may_save:
                    self.stored = min(self.stored, position // chunk_blocks)
                    self.replace = True
                return
