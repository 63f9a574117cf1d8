"""A session with servers that run already and have no connector of ours, each of them an arm: vLLM against vLLM, flags
against flags.

Nothing tells such a server what to hit, and what it has served it keeps. So every run gets prompts of its own, which share
as much with one another as the workload's do, and primes them itself.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from harness.core.errors import RunError, VoidRuns
from harness.experiment.cache_state import PlannedRun
from harness.experiment.correctness import OUTPUT_TOKENS
from harness.experiment.plan import Setting
from harness.experiment.session import Session
from harness.experiment.span_log import SpanLogReader
from harness.experiment.target_arm import TargetArm
from harness.replay.any_server import counted_hits, reset
from harness.replay.outcome import Outcome
from harness.replay.over_http import HttpEngine
from harness.stores.base import Store
from harness.workloads.base import Prompt, token_block

SETTLE_S = 20.0
"""How long a server may take until it hits what it has served: some store it after the request."""
ASK_AGAIN_S = 0.1
COUNTED_S = 1.0
"""How long a server's counters may lag behind its answers."""


class Proof(StrEnum):
    """What shows that a request hit what the workload implies."""

    TOKENS = "cached tokens"
    """Its own answer: ``usage.prompt_tokens_details.cached_tokens``."""
    METRICS = "metrics"
    """The server's counters, over the whole run."""
    DECLARED = "declared"
    """The user's word, ``expect_hit=``."""
    NONE = "none"


@dataclass
class Served:
    """One server under measurement. ``reset_path``: empty if its cache cannot be emptied."""

    arm: TargetArm
    engine: HttpEngine
    proof: Proof = Proof.NONE
    reset_path: str = ""
    hits_before: float | None = None
    usual: float | None = None
    """Tokens that hit in the first run whose count the workload allows."""

    async def reset(self) -> None:
        """Empty its cache, if it can be. Raises RunError if it cannot now."""
        end = time.monotonic() + SETTLE_S
        while self.reset_path and (why := await reset(self.engine.http, self.engine.target.url, self.reset_path)):
            if time.monotonic() > end:
                raise RunError(f"the server {self.arm.name} did not empty its cache ({self.reset_path}): {why}; give reset=never")
            await asyncio.sleep(ASK_AGAIN_S)

    async def hits(self) -> float | None:
        """As its /metrics counts them."""
        return await counted_hits(self.engine.http, self.engine.target.url)


class TargetsSession(Session):
    """Sends each request to the server that is its arm; keys, namespaces and caps mean nothing there."""

    their_log = "the servers' logs"

    def __init__(self, servers: Mapping[str, Served], store: Store, setting: Setting) -> None:
        first = next(iter(servers.values())).engine
        super().__init__(first, store, SpanLogReader(None), setting.experiment.chunk_tokens, logged=False, local=False)
        self._servers = dict(servers)
        self._setting = setting
        self._nonce = secrets.token_hex(8)
        self._current = next(iter(servers))
        self._prompts_of("the beginning")

    def _prompts_of(self, what: str) -> None:
        """From here on prompts are those of ``what``: at each place all ids are moved by the same amount, so that two prompts
        have as much in common as before, and nothing with those of any other ``what``."""
        longest = max(len(prompt.tokens) for prompt in self._setting.data.prompts) + self.chunk_tokens + 2
        seed = f"fresh/{self._nonce}/{what}"
        self._moves = token_block(seed, longest, self._setting.model.vocabulary).astype(np.int64)

    def params(self, arm: str, tokens: Sequence[int], namespace: str, *, hit: int, save: bool, label: str) -> Mapping[str, Any]:
        """None."""
        return {}

    async def send(
        self,
        arm: str,
        tokens: Sequence[int],
        output_tokens: int,
        namespace: str,
        *,
        hit: int,
        save: bool,
        label: str = "",
        heard: Callable[[float], None] | None = None,
    ) -> Outcome:
        """One request to the arm's server; of neighbours to the one whose run it is."""
        served = self._servers.get(arm) or self._servers[self._current]
        if label and served.arm.options.reset == "request":
            await served.reset()
        moved = (np.asarray(tokens, dtype=np.int64) + self._moves[: len(tokens)]) % self._setting.model.vocabulary
        number = f"ttft-{next(self._numbers)}"
        return await served.engine.generate(number, moved.tolist(), output_tokens, {}, heard)

    def heads(self, setting: Setting) -> Sequence[Sequence[int]]:
        """Nothing is computed once for all runs."""
        return []

    async def prime(self, heads: Sequence[Sequence[int]], namespace: str) -> None:
        """Of the warm-up, by every server."""
        for name in self._servers:
            await self._prime(name, heads)

    async def _prime(self, name: str, heads: Sequence[Sequence[int]]) -> None:
        """Serve all heads, then each again until it hits. Raises RunError if one never does."""
        served = self._servers[name]
        for tokens in heads:
            # Two tokens: vLLM counts a request's hits with its first one, at times after that has left.
            if error := (await self.send(name, tokens, 2, "", hit=0, save=True)).error:
                raise RunError(f"priming the server {name} failed: {error}")
        if served.proof is Proof.TOKENS and served.arm.options.expect_hit != "none":
            for tokens in heads:
                await self._until_hit(name, tokens)

    async def _until_hit(self, name: str, tokens: Sequence[int]) -> None:
        """One token more makes the whole head a hit: the last token of a prompt is always computed."""
        served, end = self._servers[name], time.monotonic() + SETTLE_S
        while True:
            if served.arm.options.reset == "request":  # or it would hit what the last reading left in the server's own cache
                await served.reset()
            again = await self.send(name, [*tokens, tokens[0]], 2, "", hit=0, save=False)
            if again.error:
                raise RunError(f"priming the server {name} failed: {again.error}")
            if again.cached_tokens is None or again.cached_tokens >= len(tokens):
                return
            if time.monotonic() > end:
                raise RunError(
                    f"the server {name} does not hit what it has served: {again.cached_tokens} of {len(tokens)} tokens after "
                    f"{SETTLE_S:.0f} s; give its cache more room, or the workload fewer prompts"
                )
            await asyncio.sleep(ASK_AGAIN_S)

    async def begin_run(self, planned: PlannedRun) -> None:
        """New prompts; the server's own cache emptied and primed with them."""
        served, setting = self._servers[planned.arm], self._setting
        self._current = planned.arm
        self._prompts_of(f"run {planned.run}")
        await served.reset()
        if setting.experiment.cache_state == "primed":
            await self._prime(planned.arm, setting.heads)
        served.hits_before = await served.hits() if served.proof is Proof.METRICS else None

    async def end_run(self, planned: PlannedRun) -> str:
        """Why the run does not count, by the server's counters."""
        served, setting = self._servers[planned.arm], self._setting
        if served.proof is not Proof.METRICS:
            return ""
        pairs = [served.arm.expects(*pair) for pair in zip(setting.hits, setting.shared, strict=True)]
        least, most = (sum(side) for side in zip(*pairs, strict=True))
        # A miss may hide in what the workload leaves open, if other prompts hit more than whole chunks. But runs differ in
        # their tokens only, so one request after the other each hits as much as the first did.
        same = served.usual if setting.experiment.one_by_one and setting.experiment.cache_state == "primed" else None
        hit = await self._hits_of_run(served, least if same is None else same)
        if hit is None:
            return "the server's /metrics did not say how many tokens hit"
        if not least <= hit <= most:
            return (
                f"{hit:.0f} tokens hit by the server's /metrics, but the workload implies {_between(least, most)}; "
                "others use the server, or it hits otherwise"
            )
        if same is not None and hit != same:
            return (
                f"{hit:.0f} tokens hit by the server's /metrics, and {same:.0f} in an earlier run over prompts as long; "
                "others use the server, or a request hit otherwise"
            )
        served.usual = hit
        return ""

    async def _hits_of_run(self, served: Served, least: float) -> float | None:
        """Tokens that hit since the run began; asked again for a moment if fewer than ``least`` are counted."""
        end = time.monotonic() + COUNTED_S
        while True:
            after = await served.hits()
            if served.hits_before is None or after is None:
                return None
            if after - served.hits_before >= least or time.monotonic() > end:
                return after - served.hits_before
            await asyncio.sleep(ASK_AGAIN_S)

    def hit_reason(self, arm: str, position: int, expected: int, hit: int | None) -> str:
        """Only where the answers tell; a contradiction counts whatever else was declared."""
        served = self._servers[arm]
        if hit is None:
            return "" if served.proof is not Proof.TOKENS else "the server's answer does not say what was hit, as others do"
        if hit == expected:
            return ""
        least, most = served.arm.expects(self._setting.hits[position], self._setting.shared[position])
        return f"hit {hit} tokens, but the workload implies {_between(least, most)}"

    def digest(self, outcome: Outcome) -> str:
        """None: each run has prompts of its own, so their answers are not to be compared."""
        return ""

    async def prove(self, setting: Setting, chosen: Sequence[tuple[Prompt, int]], namespace: str) -> dict[str, Any]:
        """The same prompts to every server, computed and hit: whether all answers are equal."""
        equal = answers = 0
        for prompt, hit in chosen:
            tokens = prompt.tokens[: max(hit + 1, len(prompt.tokens) - OUTPUT_TOKENS)]
            first: Outcome | None = None
            for name in self._servers:
                for _ in range(2):
                    answer = await self.send(name, tokens, OUTPUT_TOKENS, namespace, hit=hit, save=True)
                    if answer.error:
                        raise RunError(f"the server {name} failed: {answer.error}")
                    first = first or answer
                    answers += 1
                    equal += _same(answer, first)
        told = f"{equal} of {answers} answers of {len(self._servers)} servers equal the first one's for the same prompt"
        if equal == answers:
            return {"status": "passed", "prompts": len(chosen), "output_tokens": OUTPUT_TOKENS, "arms": list(self._servers)}
        if setting.experiment.same_tokens:
            raise VoidRuns(f"{told}, so nothing was timed; without same_tokens=true that is only reported")
        self.warnings.append(f"{told}: they compute differently, as bfloat16 does by batch and kernel, or serve other weights.")
        return {"status": "skipped", "detail": told, "equal_answers": equal, "answers": answers}

    def facts(self) -> dict[str, Any]:
        """The servers as they were found."""
        told: dict[str, Any] = {}
        for name, served in self._servers.items():
            target = served.engine.target
            told[name] = {
                "url": target.url,
                "vllm": target.version,
                "model": target.model,
                "max_model_len": target.max_model_len,
                "proof": served.proof.value,
                "reset": served.reset_path,
            }
        return {"targets": told}


def _between(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} to {most}"


def _same(left: Outcome, right: Outcome) -> bool:
    return left.tokens == right.tokens if left.tokens and right.tokens else left.text == right.text
