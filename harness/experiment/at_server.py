"""A session with a server that runs already: what must hold before anything is measured there."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.chunks import hit_limit
from harness.core.errors import RunError, SetupError, UsageError
from harness.core.machine import boot_id
from harness.core.renamed import store_today
from harness.core.text import redact
from harness.experiment.hooks import Hooks
from harness.experiment.plan import PRIMER, RECOMPUTE, Setting
from harness.experiment.session import OwnSession, Session
from harness.experiment.span_log import SpanLogReader
from harness.replay.models import fingerprint
from harness.replay.outcome import Outcome
from harness.replay.over_http import HttpEngine, connected
from harness.replay.prometheus import FAILED_BLOCKS, Scraper, failed_blocks
from harness.replay.target import Target
from harness.results.side_tables import append_metrics
from harness.stores.base import Store
from harness.stores.layered import in_layout
from harness.workloads.base import token_block

UNLOGGED = (
    "The server's span log cannot be read here: lookups, loads and stalls are not known, and only the counts of cached tokens "
    "and equal tokens show that the right KV was loaded. On the server's machine it is found by itself; elsewhere give "
    "--span-log FOLDER."
)
LEFT = "The primed chunks stay in the server's store: their keys are known from its span log only."


class ServerSession(OwnSession):
    """Our connector in a server that others may use as well, so every label has a prefix, and what the span log calls saved
    need not be ours."""

    their_log = "the server's log"

    def __init__(self, engine: HttpEngine, store: Store, log: SpanLogReader, chunk_tokens: int, **place: bool) -> None:
        super().__init__(engine, store, log, chunk_tokens, **place)
        self.target = engine.target
        self._http = engine
        self._own: set[str] = set()

    def params(self, arm: str, tokens: Sequence[int], namespace: str, *, hit: int, save: bool, label: str) -> Mapping[str, Any]:
        """What it saves is ours; others may use the same labels."""
        if save:
            self._own.update(self.keys(tokens, namespace))
        label = self.log.prefix + label if label else ""
        return super().params(arm, tokens, namespace, hit=hit, save=save, label=label)

    def _ours(self, saved: Iterable[str]) -> Iterable[str]:
        return self._own.intersection(saved)

    async def prime(self, heads: Sequence[Sequence[int]], namespace: str) -> None:
        """As in this process; without a span log, what was saved shows in a second reading only."""
        for tokens in heads:
            await super().prime([tokens], namespace)
            if self.logged:
                continue
            again = await self.send(PRIMER, tokens, 1, namespace, hit=len(tokens), save=False)
            expected = hit_limit(len(tokens), self.chunk_tokens)
            if again.error or again.cached_tokens != expected:
                why = again.error or f"read again, it hit {again.cached_tokens} of {expected} tokens"
                raise RunError(f"priming failed: {why}")

    @property
    def counts_failures(self) -> bool:
        """Whether a failed load shows only in the server's counter: vLLM goes on to call a hit what it had to compute."""
        policy = (self.log.start.get("engine") or {}).get("load_failure_policy")
        return not self.logged and policy != "fail"

    async def failed_blocks(self) -> float | None:
        """As the server's /metrics says; None if it doesn't."""
        return await failed_blocks(self._http.http, self.target.url) if self.counts_failures else 0

    def facts(self) -> dict[str, Any]:
        """The server as it was found."""
        target, about = self.target, self.target.about
        told: dict[str, Any] = {"url": target.url, "vllm": target.version, "model": target.model}
        told["max_model_len"] = target.max_model_len
        if about is not None:
            told |= {"id": about.id, "versions": about.versions, "machine": about.machine, "binding": about.binding}
        return {"server": told}


@contextlib.asynccontextmanager
async def session_at_server(setting: Setting, store: Store, folder: Path, hooks: Hooks, dtype: str) -> AsyncIterator[Session]:
    """Connect, and see that the server is the one that the experiment means. Its metrics are read meanwhile.

    Raises SetupError or UsageError.
    """
    experiment = setting.experiment
    hooks.stage(f"connecting to {experiment.target}")
    async with connected(experiment.target, experiment.target_timeout_s, experiment.target_ca) as engine:
        session = _session(setting, engine, store)
        url = engine.target.url
        try:
            if await session.failed_blocks() is None:
                raise SetupError(
                    f"the server at {url} does not say which loads fail: its span log cannot be read here and its /metrics has "
                    f"no {FAILED_BLOCKS}; serve with this version of ttft, or with kv_load_failure_policy=fail, "
                    f"or give --span-log FOLDER; or measure it as it is: --arm target:{url}"
                )
            await _probe(session, setting)
            session.notes += _notes(session, setting, dtype)
            scraper = Scraper(engine.http, url, lambda rows: append_metrics(folder, rows))
            async with scraper.during():
                if scraper.others:
                    session.notes.append(
                        f"The server was serving {scraper.others:.0f} other requests at the start: TTFT contains their load."
                    )
                yield session
            if scraper.errors:
                session.warnings.append(f"{len(scraper.errors)} readings of the server's /metrics failed: {scraper.errors[0]}")
        finally:
            session.close(keep_store=experiment.keep_store)


def _session(setting: Setting, engine: HttpEngine, store: Store) -> ServerSession:
    """Raises SetupError or UsageError if the server is another one than the experiment means."""
    experiment, about = setting.experiment, engine.target.about
    folder = Path(experiment.target_span_log) if experiment.target_span_log else None
    if folder is None and about is not None and about.here:
        folder = about.span_log
    log = SpanLogReader(folder, f"{secrets.token_hex(4)}/")
    if folder is not None:
        log.skip()
        if not log.start.get("identity"):  # a peer's has none
            raise SetupError(
                f"there is no span log of our connector in {folder}; give the folder with worker-0.jsonl as --span-log"
            )
    log.start = log.start or (about.start if about else {})
    _check(setting, engine.target, log.start)
    local = bool(folder and about and about.boot and about.boot == boot_id())
    if experiment.page_cache == "dropped" and not local:
        raise UsageError("page_cache=dropped needs a server of ttft serve on this machine, whose page cache it is; use warm")
    where = in_layout(store, log.start)
    return ServerSession(engine, where, log, experiment.chunk_tokens, logged=folder is not None, local=local)


def _check(setting: Setting, target: Target, start: Mapping[str, Any]) -> None:
    """What the server says of itself must be what the experiment says, or its numbers would have a wrong name."""
    experiment, about, url = setting.experiment, target.about, target.url
    if target.max_model_len < setting.max_model_len:
        raise SetupError(
            f"the server at {url} takes {target.max_model_len} tokens, the longest prompt needs {setting.max_model_len}; "
            "serve the same experiment, or choose a shorter workload"
        )
    if about is not None:
        lacking = [arm for arm in setting.served_arms if arm not in about.arms]
        if lacking:
            raise SetupError(
                f"the server at {url} does not serve arm '{lacking[0]}', only {', '.join(about.arms)}; "
                f"serve it too: ttft serve --arm {lacking[0]}"
            )
        _same(url, "store", store_today(about.store), redact(experiment.store), "--store")
        _same(url, "chunk_tokens", about.chunk_tokens, experiment.chunk_tokens, "--set chunk_tokens=")
        _same(url, "layout", about.layout, experiment.layout, "--set layout=")
    identity = start.get("identity") or {}
    if identity:
        _same(url, "dtype", str(identity["dtype"]).removeprefix("torch."), setting.dtype, "--dtype")
        if identity["model"] != fingerprint(setting.model.path):
            raise SetupError(f"the server at {url} serves other weights than {setting.model.name}; give its own as --model")


def _same(url: str, what: str, there: object, here: object, flag: str) -> None:
    if there != here:
        space = "" if flag.endswith("=") else " "
        raise UsageError(
            f"the server at {url} has {what}={there}, the experiment {here}; give {flag}{space}{there}, or serve the experiment"
        )


async def _probe(session: ServerSession, setting: Setting) -> None:
    """Two readings of one chunk: the second must hit by every arm that grants hits, and not by the one that grants none."""
    chunk, nonce = session.chunk_tokens, secrets.token_hex(4)
    namespace = f"probe-{nonce}"
    tokens = [int(token) for token in token_block(namespace, chunk + 2, setting.model.vocabulary)]
    url = session.target.url
    try:
        for _ in range(2):
            plain = _served(url, await session.send(RECOMPUTE, tokens, 1, namespace, hit=0, save=False))
        if plain.cached_tokens is None:
            raise SetupError(f"the server at {url} does not report cached tokens; start it with --enable-prompt-tokens-details")
        if plain.cached_tokens:
            raise SetupError(
                f"the server at {url} hits by vLLM's own prefix cache, which hides the arms; "
                "start it with --no-enable-prefix-caching"
            )
        _served(url, await session.send(PRIMER, tokens, 1, namespace, hit=chunk, save=True))
        for name, arm in setting.arms.items():
            if not arm.engine.grants_hits:
                continue
            again = _served(url, await session.send(name, tokens, 1, namespace, hit=chunk, save=False))
            if again.cached_tokens != chunk:
                raise SetupError(
                    f"the server at {url} does not have our connector with the arm '{name}': what was just saved was hit by "
                    f"{again.cached_tokens} of {chunk} tokens; start it with: ttft serve, and the same arms and "
                    f"chunk_tokens, or measure it as it is: --arm target:{url}"
                )
        session.note_saves()
    finally:
        session.delete(session.keys(tokens, namespace))


def _served(url: str, outcome: Outcome) -> Outcome:
    if outcome.error:
        raise SetupError(f"the server at {url} did not serve a first request: {outcome.error}")
    return outcome


def _notes(session: ServerSession, setting: Setting, dtype: str) -> list[str]:
    notes = [f"Measured through the API of a running server, vLLM {session.target.version}."]
    if not session.logged:
        notes += [UNLOGGED, LEFT]
    if dtype != "float32" and setting.experiment.correctness_prompts:
        notes.append(f"No correctness pass: the server computes in {dtype}, and only float32 can show it.")
    return notes
