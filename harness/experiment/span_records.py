"""What must stand in the records of a span log before anybody computes with them: ours, and those of a peer.

The file may lie on another machine's disk, or be of another version: a missing time is one sentence, not a traceback.
"""

from collections.abc import Mapping

from pydantic import BaseModel, FiniteFloat

from harness.core.options import Listed
from harness.core.spans import StartRecord

Ours = tuple[str, int, FiniteFloat, FiniteFloat, int, int]
Peers = tuple[str, int, FiniteFloat, FiniteFloat]


class _Lookup(BaseModel):
    label: str = ""
    start_s: FiniteFloat
    end_s: FiniteFloat
    hit_tokens: int | None
    between_steps: bool = False


class _Load(BaseModel):
    label: str = ""
    rank: int
    start_s: FiniteFloat | None
    end_s: FiniteFloat | None
    stall_s: FiniteFloat
    operations: int
    keys: int
    bytes: int
    failed_blocks: int
    spans: Listed[Ours]
    proof: Listed[tuple[str, int, int]] | None


class _Forward(BaseModel):
    rank: int
    tokens: int | None
    start_s: FiniteFloat
    end_s: FiniteFloat
    spans: Listed[Peers]


class _Save(BaseModel):
    key: str
    checksums: Listed[int]


class _SaveError(BaseModel):
    error: str


_RECORDS: Mapping[str, type[BaseModel]] = {
    "lookup": _Lookup, "load": _Load, "forward": _Forward, "save": _Save, "save_error": _SaveError, "start": StartRecord,
}  # fmt: skip


def check_record(kind: str, line: bytes) -> None:
    """Raises ValueError unless ``line`` holds what a record of this kind holds; other kinds are another version's."""
    if kind in _RECORDS:
        _RECORDS[kind].model_validate_json(line, strict=True)
