"""A peer's own proof, in float32: what it loads gives the tokens that computing gave.

Ours is told to compute (correctness.py); a peer can only be given prompts that it has never seen, twice.
"""

from collections.abc import Sequence
from typing import Any

from harness.errors import RunError, VoidRuns
from harness.experiment.correctness import OUTPUT_TOKENS
from harness.experiment.peer_session import PeerSession
from harness.types import Prompt
from harness.workloads.base import token_block


async def check(session: PeerSession, arm: str, chosen: Sequence[tuple[Prompt, int]], vocabulary: int) -> dict[str, Any]:
    """Prompts of the chosen lengths, not in the workload: computed, stored, loaded. Raises VoidRuns at the first difference."""
    for number, (prompt, hit) in enumerate(chosen):
        length = max(hit + 1, len(prompt.tokens) - OUTPUT_TOKENS)
        tokens = [int(token) for token in token_block(f"peer-correctness/{number}", length, vocabulary)]
        truth = await session.send(arm, tokens, OUTPUT_TOKENS, "", hit=0, save=False)
        await session.prime([session.head(tokens, hit)], "")
        loaded = await session.send(arm, tokens, OUTPUT_TOKENS, "", hit=hit, save=False)
        if truth.error or loaded.error:
            raise RunError(f"the correctness pass failed in arm {arm}: {truth.error or loaded.error}")
        equal = sum(a == b for a, b in zip(loaded.tokens, truth.tokens, strict=True))
        reason = ""
        if truth.cached_tokens:
            reason = f"hit {truth.cached_tokens} tokens of a prompt that it had never seen"
        elif not loaded.cached_tokens:
            reason = "hit nothing of a prompt that it had stored"
        elif equal != OUTPUT_TOKENS:
            reason = f"only {equal} of {OUTPUT_TOKENS} tokens equal those that were computed"
        if reason:
            raise VoidRuns(f"arm {arm} is not correct, so nothing was timed: {reason}")
    return {"status": "passed", "prompts": len(chosen), "output_tokens": OUTPUT_TOKENS, "arms": [arm]}
