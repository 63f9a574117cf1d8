"""Frozen values that several parts share. Times are seconds on ``time.perf_counter``'s clock."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import NewType

ChunkKey = NewType("ChunkKey", str)
"""Name of one stored chunk: 32 hexadecimal digits, and ``-rKofN`` behind them for rank K of N."""


SKIP = -1
"""In ``LoadRequest.blocks``: a block that must not be written."""


@dataclass(frozen=True, slots=True)
class KVGeometry:
    """Shape of one rank's KV cache, as far as bytes are concerned.

    A block is vLLM's unit: ``block_tokens`` tokens of one layer, ``block_bytes`` bytes,
    its inside packed as vLLM's attention kernel likes it. A chunk is ours: ``chunk_blocks``
    blocks of all ``layers`` layers.
    """

    layers: int
    block_tokens: int
    block_bytes: int
    chunk_blocks: int
    dtype: str

    @property
    def chunk_tokens(self) -> int:
        """Tokens in one chunk."""
        return self.block_tokens * self.chunk_blocks

    @property
    def layer_bytes(self) -> int:
        """Bytes of one layer of one chunk."""
        return self.block_bytes * self.chunk_blocks

    @property
    def chunk_bytes(self) -> int:
        """Bytes of KV in one chunk, all layers, without header and padding."""
        return self.layer_bytes * self.layers

    def digest(self) -> bytes:
        """16 bytes that differ whenever two geometries differ."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What an engine has to fetch for one request of one forward step.

    ``blocks`` are ids in the paged cache: ``chunk_blocks`` of them a chunk, in the chunks' order;
    SKIP stands for a block that is filled already and must not be touched.
    """

    request: str
    chunks: tuple[ChunkKey, ...]
    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """Something that took time. ``layer`` is -1 where it concerns all layers.

    ``kind``: ``lookup`` (asking the store what it holds), ``fetch`` (one read, from its start to
    its last byte), ``copy`` (staging to the paged cache), ``wait`` (the forward standing still),
    ``forward`` (from the end of the loads' blocking part to the end of the step).
    """

    kind: str
    layer: int
    start_s: float
    end_s: float
    bytes: int = 0
    keys: int = 0
    request: str = ""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request of a workload.

    ``prefix_tokens`` is the number of leading tokens that the store should already hold when
    this request comes, as the workload means it; the harness rounds down to whole chunks.
    ``arrival_s`` counts from the start of the trace and is 0 for workloads without a clock.
    """

    id: str
    tokens: tuple[int, ...]
    prefix_tokens: int
    output_tokens: int
    arrival_s: float = 0.0


@dataclass(frozen=True, slots=True)
class DataSet:
    """The prompts of a workload, in the order in which they are sent.

    ``notes`` says in plain sentences what was cut or left out, with counts.
    """

    prompts: tuple[Prompt, ...]
    notes: tuple[str, ...] = field(default=())

    def fingerprint(self) -> str:
        """16 hexadecimal digits over ids, tokens, hits, outputs and arrivals: equal data, equal text."""
        import numpy as np

        digest = hashlib.sha256()
        for prompt in self.prompts:
            head = [prompt.id, prompt.prefix_tokens, prompt.output_tokens, prompt.arrival_s, len(prompt.tokens)]
            digest.update(json.dumps(head).encode())
            digest.update(np.asarray(prompt.tokens, dtype="<u4").tobytes())
        return digest.hexdigest()[:16]


def whole_chunks(tokens: int, chunk_tokens: int) -> int:
    """``tokens`` rounded down to a whole number of chunks, in tokens."""
    return tokens - tokens % chunk_tokens


def hit_limit(prompt_tokens: int, chunk_tokens: int) -> int:
    """The longest hit vLLM may be granted: whole chunks, and at least one token left to compute."""
    return whole_chunks(max(prompt_tokens - 1, 0), chunk_tokens)


def total_bytes(parts: Sequence[memoryview | bytes | bytearray]) -> int:
    """Bytes in all parts together."""
    return sum(memoryview(part).nbytes for part in parts)
