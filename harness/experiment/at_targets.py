"""Servers that run already, each of them an arm: connecting, and finding out what can be proven there."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from harness.core.chunks import hit_limit
from harness.core.errors import SetupError
from harness.experiment.hooks import Hooks
from harness.experiment.plan import Setting
from harness.experiment.session import Session
from harness.experiment.targets_session import ASK_AGAIN_S, SETTLE_S, Proof, Served, TargetsSession
from harness.replay.any_server import find_reset, serves_our_connector
from harness.replay.over_http import connected_to_any
from harness.replay.prometheus import Row, Scraper
from harness.results.side_tables import append_metrics
from harness.stores.base import Store
from harness.workloads.base import token_block


@contextlib.asynccontextmanager
async def session_at_targets(setting: Setting, store: Store, folder: Path, hooks: Hooks, dtype: str) -> AsyncIterator[Session]:
    """Connect to all servers, and find out what can be proven there. Their metrics are read meanwhile. Raises SetupError."""
    async with contextlib.AsyncExitStack() as stack:
        servers, scrapers = {}, {}
        for arm in setting.targets:
            hooks.stage(f"connecting to {arm.name}, {arm.options.url}")
            url, experiment = arm.options.url, setting.experiment
            authority = experiment.target_ca if url.startswith("https:") else ""
            client = connected_to_any(url, experiment.target_timeout_s, arm.options.key, authority)
            servers[arm.name] = Served(arm, await stack.enter_async_context(client))
        session = TargetsSession(servers, store, setting)
        for name, served in servers.items():
            await _find_out(session, served, setting)
            session.notes += _notes(served)
            scrapers[name] = Scraper(served.engine.http, served.engine.target.url, _writing(folder, name))
            await stack.enter_async_context(scrapers[name].during())
            if scrapers[name].others:
                session.notes.append(
                    f"{name} was serving {scrapers[name].others:.0f} other requests at the start: TTFT contains their load."
                )
        yield session
    for name, scraper in scrapers.items():
        if scraper.errors:
            session.warnings.append(f"{len(scraper.errors)} readings of {name}'s /metrics failed: {scraper.errors[0]}")


def _writing(folder: Path, name: str) -> Callable[[Sequence[Row]], None]:
    def write(rows: Sequence[Row]) -> None:
        append_metrics(folder, [{**row, "labels": ",".join(filter(None, [f"arm={name}", str(row["labels"])]))} for row in rows])

    return write


async def _find_out(session: TargetsSession, served: Served, setting: Setting) -> None:
    """Whether the server serves the workload, how its cache is emptied, and what tells its hits. Raises SetupError."""
    name, target = served.arm.name, served.engine.target
    longest = max(len(prompt.tokens) + prompt.output_tokens for prompt in setting.data.prompts)
    if target.max_model_len and target.max_model_len < longest:
        raise SetupError(
            f"the server at {target.url} takes {target.max_model_len} tokens, the longest prompt and its answer need {longest}; "
            "serve the model with a longer context, or choose a shorter workload"
        )
    if served.arm.options.reset != "never":
        served.reset_path = await find_reset(served.engine.http, target.url)
    if served.arm.options.reset == "request" and not served.reset_path:
        raise SetupError(
            f"{name} has reset=request, and the server at {target.url} has no way to empty its cache; "
            "start vLLM with VLLM_SERVER_DEV_MODE=1, or give reset=run"
        )
    served.proof = await _proof_of(session, served, setting)
    if served.proof is Proof.NONE:
        session.warnings.append(
            f"Nothing shows what the requests of {name} hit: its answers do not tell cached tokens, and its /metrics does not "
            "count them; start vLLM with --enable-prompt-tokens-details, or declare expect_hit=workload"
        )


async def _proof_of(session: TargetsSession, served: Served, setting: Setting) -> Proof:
    """What tells the server's hits, by a prompt that is sent again until it hits. Raises SetupError if it never does."""
    name, url, chunk = served.arm.name, served.engine.target.url, session.chunk_tokens
    tokens = [int(token) for token in token_block(f"find out/{name}", chunk + 2, setting.model.vocabulary)]
    least = 0 if served.arm.options.expect_hit == "none" else hit_limit(len(tokens), chunk)
    end, first = time.monotonic() + SETTLE_S, True
    while True:
        before = await served.hits()
        answer = await session.send(name, tokens, 2, "", hit=0, save=True)
        after = await served.hits()
        if answer.error:
            raise SetupError(
                f"the server at {url} did not serve a first request: {answer.error}; if it refuses the prompt, which is token "
                f"ids of {setting.model.name}, give its own model as --model"
            )
        counted = None if before is None or after is None else after - before
        hit = counted if answer.cached_tokens is None else answer.cached_tokens
        if hit is None:
            return Proof.DECLARED if served.arm.options.expect_hit else Proof.NONE
        if hit >= least and not first:
            return Proof.METRICS if answer.cached_tokens is None else Proof.TOKENS
        if time.monotonic() > end:
            raise SetupError(
                f"the server at {url} hits {hit:.0f} of {least} tokens that it has just served; start it with prefix caching, "
                "give chunk_tokens as a multiple of its own blocks (--set chunk_tokens=), or declare expect_hit=none"
            )
        if not first:
            await asyncio.sleep(ASK_AGAIN_S)
        first = False


def _notes(served: Served) -> list[str]:
    target, name = served.engine.target, served.arm.name
    what = f"vLLM {target.version}" if target.version else "no vLLM by its /version"
    notes = [f"{name} is the running server {target.url} ({what}), which serves {target.model} as it was started."]
    if not served.reset_path and served.arm.options.reset != "never":
        notes.append(
            f"{name} has no way to empty its cache, so what earlier runs left there stays; each run has prompts of its own."
        )
    return notes


def has_no_connector(url: str, authority: str) -> bool:
    """Whether the server at ``url`` has no connector of ours, so that it can only be measured as it is.

    ``authority``: the PEM file of who signed its certificate; empty: the system's. Raises SetupError or UsageError.
    """

    async def ask() -> bool:
        async with connected_to_any(url, SETTLE_S, authority=authority) as engine:
            return not await serves_our_connector(engine.http, url)

    return asyncio.run(ask())
