"""The contract of a workload: options in, prompts out, the same on every machine and in every process."""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from harness.specs import Options
from harness.types import DataSet
from harness.workloads.outline import Outline, outline_of


@dataclass(frozen=True, slots=True)
class Limits:
    """What the model and the harness allow.

    ``vocabulary``: token ids lie in [0, vocabulary). ``max_tokens``: prompt and output together.
    ``chunk_tokens``: hits count in these.
    """

    vocabulary: int
    max_tokens: int
    chunk_tokens: int


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
