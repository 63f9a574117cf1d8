"""The connector's settings: at start by ``kv_connector_extra_config``, per request by ``kv_transfer_params``."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from harness.core.errors import UsageError, known
from harness.core.options import Options, parse_options, split_spec
from harness.core.text import without_secrets
from harness.engines import ENGINES
from harness.engines.base import Engine, EngineOptions


class ConnectorSettings(Options):
    """The whole of ``kv_connector_extra_config``."""

    store: str = Field(description="URL of the store, or $NAME of an environment variable that holds it")
    arms: list[str] = Field(default=["layerwise"], min_length=1, description="engine specs; a request picks one by its text")
    default_arm: str = Field("", description="arm of requests that name none; empty: the first")
    chunk_tokens: int = Field(256, ge=1, description="tokens in a chunk; a multiple of vLLM's block size")
    layout: Literal["chunk", "layer"] = Field("chunk", description="an object of the store is a chunk, or one layer of a chunk")
    namespace: str = Field("", description="salt of the keys: equal prompts of two namespaces never meet")
    save: bool = Field(True, description="save what was computed, unless the request says otherwise")
    save_threads: int = Field(
        0, ge=0, le=64, description="0 = save within the step; N = N threads save behind it, after a copy of the blocks"
    )
    span_log: str = Field("", description="folder of the span log: spans and digests, one file per process; empty: none")


class RequestParams(Options):
    """The entries of ``kv_transfer_params`` that are ours; others belong to other connectors and are ignored."""

    arm: str = Field("", description="which arm serves this request; empty: the default one")
    max_hit_tokens: int | None = Field(None, ge=0, description="never grant a longer hit than this")
    deadline_ms: int = Field(
        0, ge=0, le=3_600_000, description="for its load, where it is shorter than the arm's deadline_ms; 0: the arm's"
    )
    save: bool | None = Field(None, description="save what this request computes; unset: as the connector's setting says")
    namespace: str | None = Field(None, max_length=1000, description="another namespace than the connector's")
    label: str = Field("", max_length=1000, description="name of the request in the span log; empty: not logged")


@dataclass(frozen=True, slots=True)
class Arm:
    """One engine with its options, under the text by which requests pick it."""

    name: str
    engine: type[Engine]
    options: EngineOptions


def parse_arm(text: str) -> Arm:
    """``chunkwise:pool=8`` as an arm; ``...@label`` makes a second arm of the same settings. Raises UsageError."""
    refuse_password(text)
    name, options = split_spec(text.partition("@")[0])
    engine = ENGINES.get(name)
    return Arm(text, engine, parse_options(engine.Options, options, f"engine '{name}'"))


def refuse_password(arm: str) -> None:
    """Raises UsageError for an arm with a URL that has one."""
    if (safe := without_secrets(arm)) != arm:
        raise UsageError(
            f"the arm {safe} holds a password, and names of arms stand in every result; put the URL into an environment "
            "variable and write $NAME for it"
        )


def parse_settings(config: Mapping[str, Any]) -> tuple[ConnectorSettings, dict[str, Arm]]:
    """Settings and arms by name, the default one first. Raises UsageError."""
    settings = parse_options(ConnectorSettings, config, "the connector")
    if settings.store.startswith("$"):
        settings = settings.model_copy(update={"store": _from_environment(settings.store[1:])})
    arms = {text: parse_arm(text) for text in settings.arms}
    default = settings.default_arm or settings.arms[0]
    if default not in arms:
        raise known("default arm", default, list(arms))
    return settings, {default: arms[default], **arms}


def _from_environment(name: str) -> str:
    """A store's URL may hold a password, and everybody on the machine can read a command line."""
    if not os.environ.get(name):
        raise UsageError(f"the connector's store is the environment variable {name}, which is not set; set it to the store's URL")
    return os.environ[name]


def parse_params(params: Mapping[str, Any] | None, arms: Mapping[str, Arm]) -> RequestParams:
    """One request's parameters, its arm filled in. Raises UsageError."""
    if params is not None and not isinstance(params, Mapping):
        kind, arm = type(params).__name__, next(iter(arms))
        raise UsageError(f"kv_transfer_params of type {kind} is not an object; write for instance {{'arm': '{arm}'}}")
    ours = {key: value for key, value in (params or {}).items() if key in RequestParams.model_fields}
    parsed = parse_options(RequestParams, ours, "kv_transfer_params")
    arm = parsed.arm or next(iter(arms))
    if arm not in arms:
        raise known("arm", arm, list(arms))
    return parsed.model_copy(update={"arm": arm})


def check_chunk(chunk_tokens: int, block_tokens: int) -> int:
    """Blocks in a chunk. Raises UsageError if a chunk is not a whole number of vLLM's blocks."""
    if chunk_tokens % block_tokens:
        raise UsageError(
            f"chunk_tokens={chunk_tokens} is not a multiple of vLLM's block of {block_tokens} tokens; "
            f"use {max(block_tokens, chunk_tokens // block_tokens * block_tokens)}"
        )
    return chunk_tokens // block_tokens


SPLIT_OTHERWISE = ("pipeline_parallel_size", "prefill_context_parallel_size", "decode_context_parallel_size")
"""vLLM's settings by which a rank holds other layers, or other tokens, than the next one."""


def check_ranks(parallel: Mapping[str, Any]) -> None:
    """Raises UsageError unless every rank holds its heads of all layers and all tokens, as keys, digests and times assume.

    ``parallel``: vLLM's settings by name; one that is missing is 1.
    """
    for name in SPLIT_OTHERWISE:
        if (ranks := parallel.get(name) or 1) != 1:
            raise UsageError(
                f"{name}={ranks} gives ranks other layers or tokens of the KV, which is not supported; use tensor_parallel"
            )
