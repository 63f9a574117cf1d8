"""Why a row does not count. Pure.

A timed request proves three things: it hit what the workload implies, the bytes in the paged cache
are those that were saved, and its tokens are those of the other arms that load.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import xxhash


def tokens_digest(tokens: Sequence[int]) -> str:
    """16 hexadecimal digits over token ids."""
    return xxhash.xxh3_64_hexdigest(",".join(map(str, tokens)).encode())


def kv_digest(loads: Sequence[Mapping[str, Any]]) -> str:
    """16 hexadecimal digits over all sampled blocks of a request; empty where none was sampled.

    The keys are left out: they hold the namespace of one measurement, and a resumed run or a second one has another.
    """
    proofs = [(layer, digest) for load in loads for _, layer, digest in load["proof"] or []]
    return xxhash.xxh3_64_hexdigest(repr(proofs).encode()) if proofs else ""


def hit_reason(expected: int, hit: int | None) -> str:
    """Empty where the hit is what the workload implies."""
    if hit == expected:
        return ""
    return f"hit {hit} tokens where the workload implies {expected}"


def load_reason(
    loads: Sequence[Mapping[str, Any]],
    expected_hit: int,
    moves_kv: bool,
    saved: Mapping[str, Sequence[int]],
    keys: Collection[str] | None = None,
) -> str:
    """Empty where the load is proven: every sampled block holds what was saved under its key.

    ``keys``: of the chunks that the hit consists of, all ranks; where given, each has to be sampled, and no other.
    """
    if not moves_kv or not expected_hit:
        return ""
    if not loads:
        return "the connector recorded no load"
    failed = sum(load["failed_blocks"] for load in loads)
    if failed:
        return f"{failed} blocks could not be loaded and were computed"
    for load in loads:
        if not load["proof"]:
            return "no KV was sampled, so the load is not proven"
        for key, layer, digest in load["proof"]:
            if key not in saved:
                return f"chunk {key} was loaded, but this experiment never saved it"
            if saved[key][layer] != digest:
                return f"the KV in the paged cache is not what was saved: layer {layer} of chunk {key}"
    sampled = {key for load in loads for key, _, _ in load["proof"]}
    if keys is not None and sampled != set(keys):
        return f"{len(sampled)} chunks were loaded and sampled, not the {len(set(keys))} of the hit"
    return ""


class TokenWitness:
    """The tokens that the loading arms gave for each prompt; the first answer is the one to equal."""

    def __init__(self, earlier: Mapping[str, tuple[str, str]] | None = None) -> None:
        """``earlier``: digest and arm by prompt, from the runs before an interruption."""
        self._first = dict(earlier or {})

    def reason(self, prompt: str, arm: str, digest: str) -> str:
        """Empty where this is the first answer for the prompt, or equals the first."""
        first, by = self._first.setdefault(prompt, (digest, arm))
        return "" if first == digest else f"other tokens than {by} gave for the same prompt"
