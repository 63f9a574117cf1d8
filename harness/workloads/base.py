"""The contract of a workload: options in, prompts out, the same on every machine and in every process."""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator

from harness.core.options import Options
from harness.workloads.outline import Outline, columns


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

    ``notes`` says in plain sentences what was cut or skipped, with counts.
    """

    prompts: tuple[Prompt, ...]
    notes: tuple[str, ...] = field(default=())

    def fingerprint(self) -> str:
        """16 hexadecimal digits over ids, tokens, hits, outputs and arrivals: equal data, equal text."""
        digest = hashlib.sha256()
        for prompt in self.prompts:
            head = [prompt.id, prompt.prefix_tokens, prompt.output_tokens, prompt.arrival_s, len(prompt.tokens)]
            digest.update(json.dumps(head).encode())
            digest.update(np.asarray(prompt.tokens, dtype="<u4").tobytes())
        return digest.hexdigest()[:16]


def outline_of(data: DataSet) -> Outline:
    """The outline of prompts that have been made."""
    rows = ((len(p.tokens), p.prefix_tokens, p.output_tokens, -1, p.arrival_s) for p in data.prompts)
    return Outline(*columns(rows), notes=data.notes)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the model and the harness allow.

    ``vocabulary``: token ids lie in [0, vocabulary). ``max_tokens``: prompt and output together.
    ``chunk_tokens``: hits count in these.
    """

    vocabulary: int
    max_tokens: int
    chunk_tokens: int


def _tokens(value: object) -> object:
    """``4k`` and ``1M`` as model cards write lengths: 4,096 and 1,048,576. Anything else stays what it is."""
    found = re.fullmatch(r"(\d{1,9})([kKM])", value.strip()) if isinstance(value, str) else None
    return int(found[1]) * (1 << 20 if found[2] == "M" else 1 << 10) if found else value


Tokens = Annotated[int, BeforeValidator(_tokens)]
TokensOrNone = Annotated[int | None, BeforeValidator(_tokens)]
"""Numbers of tokens in options; ``4k`` is 4,096."""


class WorkloadOptions(Options):
    """A workload's settings; each workload declares its own."""


class Workload(ABC):
    """Makes the prompts of one experiment."""

    name: ClassVar[str] = ""
    Options: ClassVar[type[WorkloadOptions]] = WorkloadOptions

    def __init__(self, options: WorkloadOptions) -> None:
        self.options = options

    @abstractmethod
    def build(self, limits: Limits) -> DataSet:
        """All prompts in sending order. Deterministic: equal options and limits give equal prompts,
        in any process and on any machine. Raises UsageError, with the line number where a file is bad."""

    def outline(self, limits: Limits) -> Outline:
        """What ``build`` would make, without the tokens. Override where lengths are known before tokens are made."""
        return outline_of(self.build(limits))


def token_block(seed: str, count: int, vocabulary: int) -> "np.ndarray[Any, Any]":
    """``count`` token ids in [0, vocabulary) as uint32, drawn from ``seed`` alone.

    Philox keyed by SHA-256 of the seed: stable across processes, machines and numpy versions
    (``random_raw`` is covered by numpy's stream guarantee; ``hash()`` is not stable, see docs).
    """
    key = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:16], "little")
    raw = np.random.Philox(key=key).random_raw(count)
    return (np.asarray(raw, dtype=np.uint64) % np.uint64(vocabulary)).astype(np.uint32)
