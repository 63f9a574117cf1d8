"""The built-in model: a small Llama whose KV is large against its compute, written once to a cache folder.

Nothing is downloaded, and its weights have a real scale, so that wrong KV shows in the tokens
(vLLM's dummy weights are so small that attention hardly reaches the output).
"""

import contextlib
import hashlib
import json
import math
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from harness.core.errors import SetupError, UsageError
from harness.core.options import Options

WRITER = 1
"""Raised when the same options would give other bytes; part of the cache folder's name."""

_PIECE = 1 << 20
"""Elements generated at a time, which bounds the memory."""

_SCRATCH = ".writing-"
_STALE_S = 3600.0
"""Age from which a folder of that name is one of a writer that was killed: a living one makes its file younger as it writes."""

_SUM_DEVIATION = math.sqrt((2**32 - 1) / 3)
"""Standard deviation of the sum of four independent uniform 16-bit integers: sqrt(4 (65536^2 - 1) / 12)."""


class BuiltinOptions(Options):
    """Shape of the built-in model. The defaults give 48 KiB of KV a token."""

    layers: int = Field(24, ge=1, le=1024, description="number of layers")
    hidden: int = Field(256, ge=1, le=2**17, description="width of the hidden state")
    intermediate: int = Field(704, ge=1, le=2**19, description="width of the MLP")
    heads: int = Field(8, ge=1, le=1024, description="query heads")
    kv_heads: int | None = Field(
        None, ge=1, le=1024, description="KV heads; by default as many as heads, or half of them in float32"
    )
    head_dim: int = Field(64, ge=2, le=1024, multiple_of=2, description="width of a head")
    vocabulary: int = Field(8192, ge=4, le=2**24, description="number of token ids")
    max_positions: int = Field(40960, ge=1, le=2**30, description="longest context in tokens")
    std: float = Field(0.05, gt=0, lt=10, description="standard deviation of the weights")
    seed: int = Field(0, ge=0, description="seed of the weights")

    def completed(self, dtype: str) -> "BuiltinOptions":
        """With ``kv_heads`` filled in, so that a token's KV has the same bytes in any dtype. Raises UsageError."""
        wide = dtype == "float32"
        kv_heads = self.kv_heads or (max(1, self.heads // 2) if wide else self.heads)
        if self.heads % kv_heads:
            raise UsageError(f"the built-in model's heads={self.heads} is not a multiple of kv_heads={kv_heads}; choose another")
        return self.model_copy(update={"kv_heads": kv_heads})

    def spec(self) -> str:
        """The text that names exactly this model: what differs from the defaults, ``kv_heads`` always."""
        defaults = BuiltinOptions()
        parts = [f"{name}={value}" for name, value in self if value != getattr(defaults, name)]
        return "builtin:" + ",".join(parts) if parts else "builtin"


def config_of(options: BuiltinOptions) -> dict[str, object]:
    """The Hugging Face configuration of this model."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": options.hidden,
        "intermediate_size": options.intermediate,
        "num_hidden_layers": options.layers,
        "num_attention_heads": options.heads,
        "num_key_value_heads": options.kv_heads,
        "head_dim": options.head_dim,
        "vocab_size": options.vocabulary,
        "max_position_embeddings": options.max_positions,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def shapes_of(options: BuiltinOptions) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight, in the order in which they are written."""
    hidden, wide = options.hidden, options.intermediate
    query, kv = options.heads * options.head_dim, (options.kv_heads or options.heads) * options.head_dim
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (options.vocabulary, hidden)}
    for layer in range(options.layers):
        for name, shape in {
            "input_layernorm": (hidden,),
            "self_attn.q_proj": (query, hidden),
            "self_attn.k_proj": (kv, hidden),
            "self_attn.v_proj": (kv, hidden),
            "self_attn.o_proj": (hidden, query),
            "post_attention_layernorm": (hidden,),
            "mlp.gate_proj": (wide, hidden),
            "mlp.up_proj": (wide, hidden),
            "mlp.down_proj": (hidden, wide),
        }.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    return shapes | {"model.norm.weight": (hidden,), "lm_head.weight": (options.vocabulary, hidden)}


def as_bfloat16(values: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Float32 values as the 16 bits of bfloat16, rounded to nearest even; finite values only."""
    bits = np.asarray(values, dtype="<f4").view("<u4")
    rounded: np.ndarray[Any, Any] = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return rounded.astype("<u2")


def random_weights(seed: int, name: str, count: int, std: float) -> Iterator["np.ndarray[Any, Any]"]:
    """``count`` weights of tensor ``name`` as bfloat16 bits, in pieces of bounded size.

    Nearly normal with mean 0 and standard deviation ``std``: the sum of four uniform 16-bit numbers
    of Philox's raw stream. Unlike numpy's normal distribution, that stream is promised to stay the
    same, and integer sums are exact, so every machine writes the same bytes.
    """
    key = hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16]
    source = np.random.Philox(key=int.from_bytes(key, "little"))
    scale = np.float32(std / _SUM_DEVIATION)
    for start in range(0, count, _PIECE):
        raw = np.asarray(source.random_raw(min(_PIECE, count - start)), dtype=np.uint64)
        total = raw.view(np.uint16).reshape(-1, 4).sum(axis=1, dtype=np.int32)
        yield as_bfloat16((total - 2 * 65535).astype(np.float32) * scale)


def safetensors_header(shapes: dict[str, tuple[int, ...]]) -> tuple[bytes, int]:
    """Head of a safetensors file of bfloat16 tensors, and the length of the whole file in bytes.

    The format is 8 bytes of length and a JSON object, padded to 8 (huggingface.co/docs/safetensors).
    Written here because the library's own writer wants all tensors in memory at once.
    """
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return struct.pack("<Q", len(text)) + text, 8 + len(text) + end


def _write(options: BuiltinOptions, folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(config_of(options), indent=2) + "\n", encoding="utf-8")
    shapes = shapes_of(options)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(safetensors_header(shapes)[0])
        for name, shape in shapes.items():
            if len(shape) == 1:  # a norm's scale
                file.write(as_bfloat16(np.ones(shape, dtype=np.float32)).tobytes())
                continue
            for piece in random_weights(options.seed, name, math.prod(shape), options.std):
                file.write(piece.tobytes())


def _complete(options: BuiltinOptions, folder: Path) -> bool:
    """Whether the folder holds the whole model; a crash of the machine may have cut its file short."""
    weights = folder / "model.safetensors"
    try:
        return (folder / "config.json").is_file() and weights.stat().st_size == safetensors_header(shapes_of(options))[1]
    except OSError:
        return False


def cache_folder() -> Path:
    """Where built-in models are kept: ``$XDG_CACHE_HOME/ttft/models``, by default below ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "ttft" / "models"


def ensure_written(options: BuiltinOptions) -> Path:
    """The folder with this model, written now where it is not there yet.

    ``options`` must be completed. Safe with several processes at once: each writes a folder of its
    own, and the first to finish gives it its name. Raises SetupError where the cache is not writable or full.
    """
    identity = json.dumps([WRITER, options.model_dump()], sort_keys=True)
    target = cache_folder() / hashlib.sha256(identity.encode()).hexdigest()[:16]
    if _complete(options, target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        size, free = safetensors_header(shapes_of(options))[1], shutil.disk_usage(target.parent).free
        if size > free:
            raise SetupError(
                f"the built-in model takes {size / 2**30:,.1f} GiB, and {free / 2**30:,.1f} GiB are free at {target.parent}; "
                "choose a smaller one, or set XDG_CACHE_HOME to a place with more room"
            )
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=_SCRATCH) as scratch:
            fresh = Path(scratch) / "model"
            fresh.mkdir()
            _write(options, fresh)
            _publish(options, fresh, target, Path(scratch) / "old")
    except OSError as error:
        reason = f"the built-in model cannot be written to {target}: {error.strerror}; set XDG_CACHE_HOME to a place that can"
        raise SetupError(reason) from error
    return target


def _sweep(folder: Path) -> None:
    """Delete what killed writers left: they can be as large as a model each."""
    oldest = time.time() - _STALE_S
    for scratch in folder.glob(f"{_SCRATCH}*"):
        with contextlib.suppress(OSError):
            if max(path.lstat().st_mtime for path in (scratch, *scratch.rglob("*"))) < oldest:
                shutil.rmtree(scratch, ignore_errors=True)


def _publish(options: BuiltinOptions, fresh: Path, target: Path, old: Path) -> None:
    if target.exists() and not _complete(options, target):
        shutil.move(target, old)
    try:
        fresh.rename(target)
    except OSError:
        if not _complete(options, target):  # else another process was faster, with the same bytes
            raise
