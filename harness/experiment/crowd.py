"""The neighbours of an experiment: which prompts they send, and through which arm."""

from collections.abc import Callable
from dataclasses import dataclass

from harness.experiment.session import Session
from harness.replay.neighbours import Kind, Neighbours
from harness.replay.outcome import Outcome
from harness.workloads.base import token_block

PROMPT_TOKENS = 16
"""Too short to hit a chunk of any usual size: neighbours ask nothing of the store."""
DECODE_TOKENS = 512
"""A decoding neighbour begins anew after so many; its short prefill is no gap of its own."""
ARM = "recompute"


@dataclass(frozen=True, slots=True)
class Crowd:
    """``decodes`` requests at once, a probe every ``probe_every_s`` seconds (0: none)."""

    decodes: int
    probe_every_s: float
    vocabulary: int
    max_model_len: int

    @property
    def empty(self) -> bool:
        """Whether nobody else is served."""
        return not self.decodes and not self.probe_every_s

    def gather(self, session: Session) -> Neighbours:
        """Neighbours that are served through ``session``."""
        longest = min(DECODE_TOKENS, self.max_model_len - PROMPT_TOKENS)

        async def send(kind: Kind, number: int, heard: Callable[[float], None]) -> Outcome:
            tokens = token_block(f"neighbour/{kind}/{number}", PROMPT_TOKENS, self.vocabulary).tolist()
            wanted = longest if kind == "decode" else 1
            return await session.send(ARM, tokens, wanted, "neighbours", hit=0, save=False, heard=heard)

        return Neighbours(send, self.decodes, self.probe_every_s)
