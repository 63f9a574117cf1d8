"""Correct before fast: in float32 every loading arm gives the tokens that computing everything gives.

bfloat16 cannot show this: a hit and a recompute take different numerical paths, and differ after a few
tokens even when all is right (docs/measurement.md).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from harness.connector.peers.arm import PeerArm
from harness.connector.settings import Arm
from harness.core.errors import RunError, VoidRuns
from harness.experiment.at_peer import PeerSession
from harness.experiment.rows import load_reason
from harness.experiment.session import Session, loading_arms
from harness.workloads.base import Prompt, token_block

OUTPUT_TOKENS = 8


def choose(prompts: Sequence[Prompt], hits: Sequence[int], count: int) -> list[tuple[Prompt, int]]:
    """The ``count`` shortest prompts that hit something, with their hits: right KV shows at any length."""
    candidates = [(prompt, hit) for prompt, hit in zip(prompts, hits, strict=True) if hit]
    candidates.sort(key=lambda pair: len(pair[0].tokens))
    return candidates[:count]


async def check(
    session: Session, arms: Mapping[str, Arm | PeerArm], chosen: Sequence[tuple[Prompt, int]], namespace: str
) -> dict[str, Any]:
    """Replay the chosen prompts, already primed, by every arm. Raises VoidRuns at the first difference."""
    for number, (prompt, hit) in enumerate(chosen):
        # Where the prompt fills the model's context, its last tokens make room for the output.
        tokens = prompt.tokens[: max(hit + 1, len(prompt.tokens) - OUTPUT_TOKENS)]
        truth = await session.send("recompute", tokens, OUTPUT_TOKENS, namespace, hit=0, save=False)
        if truth.error:
            raise RunError(f"the correctness pass failed: {truth.error}")
        for arm in loading_arms(arms):
            label = f"correctness/{number}/{arm}"
            outcome = await session.send(arm, tokens, OUTPUT_TOKENS, namespace, hit=hit, save=False, label=label)
            if outcome.error:
                raise RunError(f"the correctness pass failed in arm {arm}: {outcome.error}")
            session.log.poll()
            loads = session.log.loads(label)
            keys = session.keys(prompt.tokens[:hit], namespace)
            reason = load_reason(loads, hit, moves_kv=session.logged, saved=session.log.saved, keys=keys)
            if outcome.cached_tokens != hit:
                reason = f"hit {outcome.cached_tokens} tokens where {hit} are stored"
            equal = sum(a == b for a, b in zip(outcome.tokens, truth.tokens, strict=True))
            if not reason and equal != OUTPUT_TOKENS:
                reason = f"only {equal} of {OUTPUT_TOKENS} tokens equal those of recompute"
            if reason:
                raise VoidRuns(f"arm {arm} is not correct, so nothing was timed: prompt {prompt.id}: {reason}")
    return {"status": "passed", "prompts": len(chosen), "output_tokens": OUTPUT_TOKENS, "arms": loading_arms(arms)}


async def check_peer(session: PeerSession, arm: str, chosen: Sequence[tuple[Prompt, int]], vocabulary: int) -> dict[str, Any]:
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
