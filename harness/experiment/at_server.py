"""A session with a server that runs already: what has to hold before anything is measured there."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import SetupError, UsageError
from harness.core.machine import boot_id
from harness.core.text import redact
from harness.experiment.plan import RECOMPUTE, Setting
from harness.experiment.session import PRIMER, Session
from harness.experiment.span_log import SpanLogReader
from harness.replay.models import fingerprint
from harness.replay.outcome import Outcome
from harness.replay.over_http import HttpEngine, connected
from harness.replay.target import Target
from harness.stores.base import Store
from harness.stores.layered import in_layout
from harness.workloads.base import token_block

UNTRACED = (
    "The server's span log cannot be read here: lookups, loads and stalls are not known, and only the counts of cached tokens "
    "and equal tokens show that the right KV was loaded. On the server's machine it is found by itself; elsewhere give "
    "--span-log FOLDER."
)
LEFT = "The primed chunks stay in the server's store: without its span log nothing tells their keys."


@dataclass(frozen=True, slots=True)
class AtServer:
    """A session with a server. ``notes``: what a reader of the numbers has to know. ``told``: for run.json."""

    session: Session
    engine: HttpEngine
    notes: tuple[str, ...]
    told: Mapping[str, Any]


@contextlib.asynccontextmanager
async def session_at_server(setting: Setting, store: Store) -> AsyncIterator[AtServer]:
    """Connect, and see that the server is the one that the experiment means. Raises SetupError or UsageError."""
    experiment = setting.experiment
    async with connected(experiment.target, experiment.target_timeout_s) as engine:
        about = engine.target.about
        folder = (
            Path(experiment.target_span_log) if experiment.target_span_log else about.span_log if about and about.here else None
        )
        prefix = f"{secrets.token_hex(4)}/"
        log = SpanLogReader(folder, prefix)
        if folder is not None:
            log.skip()
            if not log.start:
                raise SetupError(
                    f"there is no span log of our connector in {folder}; give the folder with worker-0.jsonl as --span-log"
                )
        start = log.start or (about.start if about else {})
        _check(setting, engine.target, start)
        local = bool(folder and about and about.boot and about.boot == boot_id())
        if experiment.page_cache == "dropped" and not local:
            raise UsageError("page_cache=dropped needs a server of ttft serve on this machine, whose page cache it is; use warm")
        session = Session(
            engine, in_layout(store, start), log, experiment.chunk_tokens,
            prefix=prefix, logged=folder is not None, local=local, shared=True,
        )  # fmt: skip
        log.start = start
        try:
            await _probe(session, setting)
            yield AtServer(session, engine, _notes(engine.target, session), _told(engine.target))
        finally:
            session.close(keep_store=experiment.keep_store)


def _check(setting: Setting, target: Target, start: Mapping[str, Any]) -> None:
    """Whatever the server tells of itself must be what the experiment says, or its numbers would stand under a wrong name."""
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
        _same(url, "store", about.store, redact(experiment.store), "--store")
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


async def _probe(session: Session, setting: Setting) -> None:
    """Two readings of one chunk: the second must hit by every arm that grants hits, and not by the one that grants none."""
    chunk, nonce = session.chunk_tokens, secrets.token_hex(4)
    namespace = f"probe-{nonce}"
    tokens = [int(token) for token in token_block(namespace, chunk + 2, setting.model.vocabulary)]
    url = session.engine.target.url if isinstance(session.engine, HttpEngine) else "the target"
    try:
        for _ in range(2):
            plain = _served(url, await session.send(RECOMPUTE, tokens, 1, namespace, hit=0, save=False))
        if plain.cached_tokens is None:
            raise SetupError(f"the server at {url} does not tell cached tokens; start it with --enable-prompt-tokens-details")
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
                    f"the server at {url} has no connector of ours with the arm '{name}': what was just saved was hit by "
                    f"{again.cached_tokens} of {chunk} tokens; start it with: ttft serve, and the same arms and chunk_tokens"
                )
        session.note_saves()
    finally:
        session.delete(session.keys(tokens, namespace))


def _served(url: str, outcome: Outcome) -> Outcome:
    if outcome.error:
        raise SetupError(f"the server at {url} did not serve a first request: {outcome.error}")
    return outcome


def _notes(target: Target, session: Session) -> tuple[str, ...]:
    served = f"Measured through the API of a running server, vLLM {target.version}."
    return (served,) if session.logged else (served, UNTRACED, LEFT)


def _told(target: Target) -> dict[str, Any]:
    about = target.about
    told: dict[str, Any] = {
        "url": target.url,
        "vllm": target.version,
        "model": target.model,
        "max_model_len": target.max_model_len,
    }
    if about is not None:
        told |= {"id": about.id, "versions": about.versions, "machine": about.machine, "binding": about.binding}
    return told
