"""Which model vLLM is to run: the built-in one, or any local folder or hub name that vLLM takes."""

import hashlib
import importlib
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.core.errors import SetupError, UsageError, known
from harness.core.machine import default_dtype, instruction_set, uses_gpu
from harness.core.options import parse_options, split_spec
from harness.replay.builtin_model import BuiltinOptions, config_of, ensure_written

__all__ = ["Model", "configuration", "default_dtype", "fingerprint", "instruction_set", "resolve"]

DTYPES = ("bfloat16", "float16", "float32")

_POSITIONS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "max_seq_len")
"""What models call their longest context."""

SPLIT_KV = "VLLM_CPU_ATTN_SPLIT_KV"
"""Whether vLLM's CPU attention splits the KV of a request over threads."""

_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.gguf")
_END = 64 * 1024


@dataclass(frozen=True, slots=True)
class Model:
    """A model that vLLM can be given.

    ``path``: what vLLM gets, a folder or a hub name. ``name``: what the user can write to get it
    again. ``vocabulary``: token ids lie below it. ``max_positions``: longest context in tokens.
    ``window``: of sliding-window attention where all layers have one, in tokens; else 0. ``environment``: what vLLM's
    processes need in theirs to give right tokens.
    """

    path: str
    name: str
    vocabulary: int
    max_positions: int
    builtin: bool
    window: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)


def resolve(spec: str, dtype: str) -> Model:
    """The model that ``spec`` names: ``builtin``, ``builtin:layers=4,...``, a folder, or a hub name.

    ``dtype`` (bfloat16, float16 or float32) decides only how many KV heads the built-in model has
    by default. The built-in model is written to its cache folder if it is not there.
    Raises UsageError for a wrong name or option, SetupError where the cache or transformers fails.
    """
    if dtype not in DTYPES:
        raise known("dtype", dtype, list(DTYPES))
    if _is_builtin(spec):
        return _builtin(spec, dtype)
    folder = Path(spec).expanduser()
    return _described(str(folder) if folder.is_dir() else spec, spec, configuration(spec, dtype))


def configuration(spec: str, dtype: str) -> Mapping[str, Any]:
    """Hugging Face's configuration of the model that ``spec`` names as in ``resolve``. Writes no model.

    Raises as ``resolve`` does.
    """
    if dtype not in DTYPES:
        raise known("dtype", dtype, list(DTYPES))
    if _is_builtin(spec):
        return config_of(_options(spec, dtype))
    folder = Path(spec).expanduser()
    if folder.is_dir():
        return _local_config(folder)
    if spec.startswith(("/", ".", "~")):
        raise UsageError(f"there is no model folder {spec}; give a folder with a config.json, a hub name, or 'builtin'")
    return _hub_config(spec)


def _is_builtin(spec: str) -> bool:
    return spec == "builtin" or spec.startswith("builtin:")


def _options(spec: str, dtype: str) -> BuiltinOptions:
    return parse_options(BuiltinOptions, split_spec(spec)[1], "the built-in model").completed(dtype)


def _builtin(spec: str, dtype: str) -> Model:
    options = _options(spec, dtype)
    return Model(str(ensure_written(options)), options.spec(), options.vocabulary, options.max_positions, builtin=True)


def _described(path: str, name: str, config: Mapping[str, Any]) -> Model:
    """Look in the text part of the configuration where a model has several parts."""
    text = config.get("text_config")
    config = {**config, **text} if isinstance(text, Mapping) else config
    positions = next((config[key] for key in _POSITIONS if isinstance(config.get(key), int)), None)
    vocabulary = config.get("vocab_size")
    if not isinstance(vocabulary, int) or positions is None:
        lacking = "max_position_embeddings" if isinstance(vocabulary, int) else "vocab_size"
        raise UsageError(f"the configuration of model {name} has no '{lacking}'; choose a model that generates text")
    _refuse(name, config)
    # Attention sinks: see check_sinks in harness/connector/supported.py.
    environment = {SPLIT_KV: "0"} if config.get("model_type") == "gpt_oss" and not uses_gpu() else {}
    return Model(path, name, vocabulary, positions, builtin=False, window=_window(config), environment=environment)


_LINEAR = ("layers_block_type", "attn_layer_period", "full_attention_interval", "hybrid_override_pattern", "mamba_d_state")
"""Keys by which models tell that some or all of their layers keep a state in place of KV."""


def _refuse(name: str, config: Mapping[str, Any]) -> None:
    """Raises UsageError for models that vLLM does not start with a connector, before it has loaded for minutes to say so."""
    linear = any(config.get(key) for key in _LINEAR) or "linear_attention" in layer_types(config)
    if linear:
        raise UsageError(
            f"model {name} has layers of linear attention or Mamba, whose state is no KV of single tokens; "
            "choose a model whose layers all have attention"
        )


def layer_types(config: Mapping[str, Any]) -> set[str]:
    """Names of the kinds of its layers; empty where the configuration does not tell them."""
    kinds = config.get("layer_types")
    return set(map(str, kinds)) if isinstance(kinds, list | tuple) else set()


def _window(config: Mapping[str, Any]) -> int:
    """Where only some layers slide, vLLM keeps the KV of all tokens of all layers beside this connector."""
    window, kinds = config.get("sliding_window"), layer_types(config) or {"sliding_attention"}
    slides = config.get("use_sliding_window", True) and kinds == {"sliding_attention"}
    return window if isinstance(window, int) and slides else 0


def _local_config(folder: Path) -> Mapping[str, Any]:
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"the model folder {folder} has no config.json; give one in Hugging Face's layout") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise UsageError(f"{file} does not hold a JSON object, so it is no model's configuration")
    return config


def _hub_config(name: str) -> Mapping[str, Any]:
    try:
        auto_config = importlib.import_module("transformers").AutoConfig
    except ImportError as error:
        raise SetupError(f"model {name} needs transformers, which does not import ({error}); run make setup") from error
    offline = _offline()
    try:
        config: dict[str, Any] = auto_config.from_pretrained(name, local_files_only=offline).to_dict()
    except (OSError, ValueError) as error:
        cache = "its address does not resolve here, and the model is not in the cache"
        reason = cache if offline else str(error).strip().splitlines()[0]
        raise UsageError(f"model {name} is neither a folder here nor to be had from the hub: {reason}") from error
    return config


def _offline() -> bool:
    """Whether the hub's address does not resolve and no proxy is set: its client would try for half a minute to say so."""
    host = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").hostname or ""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return False
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return True
    return False


def fingerprint(path: str, revision: str | None = None) -> str:
    """16 hexadecimal digits that tell the model's weights apart, for the root of the chunk keys.

    A folder: over config.json, and name, length, first and last 64 KiB of each weight file; fast
    at any size, and weights that were trained or seeded otherwise differ there. A hub name: over
    the name and its revision. Raises SetupError where a file cannot be read.
    """
    digest = hashlib.sha256()
    folder = Path(path).expanduser()
    if not folder.is_dir():
        digest.update(json.dumps([path, revision]).encode())
        return digest.hexdigest()[:16]
    try:
        config = folder / "config.json"
        digest.update(config.read_bytes() if config.exists() else b"")
        for file in sorted(file for pattern in _WEIGHTS for file in folder.glob(pattern)):
            digest.update(_ends_of(file))
    except OSError as error:
        raise SetupError(
            f"the model's file {error.filename} cannot be read: {error.strerror}; fix it or its permissions"
        ) from error
    return digest.hexdigest()[:16]


def _ends_of(file: Path) -> bytes:
    """Name, length, first and last 64 KiB, as bytes that cannot be confused with another file's."""
    with file.open("rb") as opened:
        size = opened.seek(0, 2)
        opened.seek(0)
        first = opened.read(_END)
        opened.seek(max(0, size - _END))
        last = opened.read(_END)
    head = json.dumps([file.name, size, len(first), len(last)]).encode()
    return head + first + last
