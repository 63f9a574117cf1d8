"""From token ids to chunk keys. Pure.

Keys chain: ``key[i] = H(key[i-1] || tokens of chunk i)`` from a root that holds everything that
makes KV bytes unusable elsewhere, so equal keys mean equal prefixes of the same model on the same
kind of machine, and a prefix hit is a run of present keys. H is BLAKE2b, 16 bytes.
"""

import hashlib
import json
import sys
from array import array
from collections.abc import Mapping, Sequence

from harness.types import ChunkKey


def root(identity: Mapping[str, object]) -> bytes:
    """16 bytes over ``identity``: model, dtype, geometry, format version, instruction set, namespace.

    The order of the entries does not matter; every value must be JSON.
    """
    text = json.dumps(dict(identity), sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def chain(start: bytes, tokens: Sequence[int], chunk_tokens: int) -> list[ChunkKey]:
    """Keys of the whole chunks of ``tokens``; a partial chunk at the end has none.

    Raises ValueError where ``chunk_tokens`` is not positive or a token is not in [0, 2**32).
    """
    if chunk_tokens <= 0:
        raise ValueError(f"chunk_tokens is {chunk_tokens}; it must be positive")
    count = len(tokens) // chunk_tokens
    try:
        data = _little_endian(tokens[: count * chunk_tokens])
    except OverflowError as error:
        raise ValueError("token ids must lie in [0, 2**32)") from error
    keys = []
    link = start
    step = 4 * chunk_tokens
    for i in range(count):
        link = hashlib.blake2b(link + data[i * step : (i + 1) * step], digest_size=16).digest()
        keys.append(ChunkKey(link.hex()))
    return keys


def _little_endian(tokens: Sequence[int]) -> bytes:
    """Four bytes a token. ``array`` takes a list four times as fast as numpy, and a lookup is part of TTFT."""
    data = array("I", tokens)
    if sys.byteorder == "big":
        data.byteswap()
    return data.tobytes()


def for_rank(key: ChunkKey, rank: int, world: int) -> ChunkKey:
    """The key under which rank ``rank`` of ``world`` keeps its part of the chunk."""
    return key if world == 1 else ChunkKey(f"{key}-r{rank}of{world}")


def chain_digest(key: ChunkKey) -> bytes:
    """The 16 bytes behind a key, without its rank."""
    return bytes.fromhex(key[:32])
