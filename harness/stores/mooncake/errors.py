"""What Mooncake's error codes mean. They are those of its ``types.h``, and stay what they are between versions."""

from collections.abc import Mapping

from harness.core.errors import ChunkMissing, StoreError, StoreUnavailable

NOT_FOUND = -704
NOT_READY = -703
EXISTS_ALREADY = -705
BEYOND_THE_END = -600
"""INVALID_PARAMS; for a read, that the object ends before the range does."""
NO_MASTER = -900

_REASONS: Mapping[int, str] = {
    -200: "its memory is full; add a storage client or give it more (--global_segment_size), or free some",
    -707: "the lease on the object ran out; raise the master's --default_kv_lease_ttl",
    -800: "the storage client that has the bytes does not deliver them; see whether it is alive",
    NO_MASTER: "the master does not answer; see whether it is alive",
    -901: "the master did not answer in time; see whether it is alive, or raise timeout_s=",
}
_UNKNOWN = "see what Mooncake wrote to the standard error"


def explain(code: int, doing: str, key: str, place: str) -> StoreError:
    """What to raise for ``code``, which came while ``doing`` something with the object ``key``."""
    if code == NOT_FOUND:
        return ChunkMissing(f"there is no object {key} at {place}; write it first, or prime the store again")
    if code == NOT_READY:
        return ChunkMissing(f"object {key} at {place} is still being written; read it later")
    return StoreUnavailable(f"cannot {doing} {key} at {place}: {_REASONS.get(code, _UNKNOWN)} (code {code})")
