"""Correct before fast: in float32 every loading arm gives the tokens that computing everything gives.

bfloat16 cannot show this: a hit and a recompute take different numerical paths, and differ after a few
tokens even if all is right (docs/measurement.md).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.core.errors import RunError, VoidRuns
from harness.experiment.plan import RECOMPUTE
from harness.experiment.rows import load_reason
from harness.workloads.base import Prompt, token_block

if TYPE_CHECKING:
    from harness.experiment.session import Session

OUTPUT_TOKENS = 8


def choose(prompts: Sequence[Prompt], hits: Sequence[int], count: int) -> list[tuple[Prompt, int]]:
    """The ``count`` shortest prompts that hit something, with their hits: right KV shows at any length."""
    candidates = [(prompt, hit) for prompt, hit in zip(prompts, hits, strict=True) if hit]
    candidates.sort(key=lambda pair: len(pair[0].tokens))
    return candidates[:count]


async def check(session: "Session", arms: Sequence[str], chosen: Sequence[tuple[Prompt, int]], namespace: str) -> dict[str, Any]:
    """Replay the chosen prompts, already primed, by every arm. Raises VoidRuns at the first difference."""
    for number, (prompt, hit) in enumerate(chosen):
        # If the prompt fills the model's context, its last tokens make room for the output.
        tokens = prompt.tokens[: max(hit + 1, len(prompt.tokens) - OUTPUT_TOKENS)]
        truth = await session.send(RECOMPUTE, tokens, OUTPUT_TOKENS, namespace, hit=0, save=False)
        if truth.error:
            raise RunError(f"the correctness pass failed: {truth.error}")
        for arm in arms:
            label = f"correctness/{number}/{arm}"
            outcome = await session.send(arm, tokens, OUTPUT_TOKENS, namespace, hit=hit, save=False, label=label)
            if outcome.error:
                raise RunError(f"the correctness pass failed in arm {arm}: {outcome.error}")
            session.log.poll()
            loads = session.log.loads(label)
            keys = session.keys(prompt.tokens[:hit], namespace)
            behind = session.behind_window(tokens, hit, namespace)
            reason = load_reason(loads, hit, session.logged, session.log.saved, keys, behind)
            if outcome.cached_tokens != hit:
                reason = f"hit {outcome.cached_tokens} tokens, but {hit} are stored"
            reason = reason or _difference(outcome.tokens, truth.tokens, "those of recompute")
            if reason:
                raise VoidRuns(f"arm {arm} is not correct, so nothing was timed: prompt {prompt.id}: {reason}")
    return _passed(len(chosen), arms)


async def check_peer(session: "Session", arm: str, chosen: Sequence[tuple[Prompt, int]], vocabulary: int) -> dict[str, Any]:
    """Prompts of the chosen lengths, not in the workload: computed, stored, loaded. Raises VoidRuns at the first difference."""
    for number, (prompt, hit) in enumerate(chosen):
        length = max(hit + 1, len(prompt.tokens) - OUTPUT_TOKENS)
        tokens = [int(token) for token in token_block(f"peer-correctness/{number}", length, vocabulary)]
        truth = await session.send(arm, tokens, OUTPUT_TOKENS, "", hit=0, save=False)
        await session.prime([session.head(tokens, hit)], "")
        loaded = await session.send(arm, tokens, OUTPUT_TOKENS, "", hit=hit, save=False)
        if truth.error or loaded.error:
            raise RunError(f"the correctness pass failed in arm {arm}: {truth.error or loaded.error}")
        if truth.cached_tokens:
            reason = f"hit {truth.cached_tokens} tokens of a prompt that it had never seen"
        elif not loaded.cached_tokens:
            reason = "hit nothing of a prompt that it had stored"
        else:
            reason = _difference(loaded.tokens, truth.tokens, "those that were computed")
        if reason:
            raise VoidRuns(f"arm {arm} is not correct, so nothing was timed: {reason}")
    return _passed(len(chosen), [arm])


def _difference(tokens: Sequence[int], truth: Sequence[int], whose: str) -> str:
    equal = sum(a == b for a, b in zip(tokens, truth, strict=True))
    return "" if equal == OUTPUT_TOKENS else f"only {equal} of {OUTPUT_TOKENS} tokens equal {whose}"


def _passed(prompts: int, arms: Sequence[str]) -> dict[str, Any]:
    return {"status": "passed", "prompts": prompts, "output_tokens": OUTPUT_TOKENS, "arms": list(arms)}
