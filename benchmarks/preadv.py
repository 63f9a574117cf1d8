"""How near the file store comes to a bare preadv loop: same files, same memory, page cache warm.

    python benchmarks/preadv.py [--dir D] [--chunks 16] [--chunk-mib 12] [--buffers 48] [--repeat 15]

The sides take turns in one process, first one way round and then the other. To add a side (an engine),
add a ``Side`` in ``sides``: a function that fills the same memory from the same chunks.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.stores.base import Read, Store, open_store

MIB = 1 << 20


@dataclass(frozen=True)
class Job:
    """What every side has to do: fill ``targets[i]`` with chunk ``keys[i]``, which lies in ``paths[i]``."""

    store: Store
    keys: tuple[str, ...]
    paths: tuple[Path, ...]
    targets: tuple[tuple[memoryview, ...], ...]
    memory: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

    @property
    def bytes(self) -> int:
        return sum(part.nbytes for parts in self.targets for part in parts)


@dataclass(frozen=True)
class Side:
    name: str
    run: Callable[[Job], None]


def bare_preadv(job: Job, offset: int = 0) -> None:
    for path, parts in zip(job.paths, job.targets, strict=True):
        descriptor = os.open(path, os.O_RDONLY)
        done = os.preadv(descriptor, parts, offset)
        os.close(descriptor)
        if done != sum(part.nbytes for part in parts):
            raise SystemExit(f"{path}: one preadv brought {done} bytes; use smaller chunks")


def store_read(job: Job) -> None:
    for key, parts in zip(job.keys, job.targets, strict=True):
        job.store.read([Read(key, 0, parts)])


def sides() -> tuple[Side, ...]:
    return (Side("bare preadv", bare_preadv), Side("store.read", store_read))


def prepare(root: Path, chunks: int, chunk_bytes: int, buffers: int) -> Job:
    """Write the chunks, and touch memory that is scattered like the blocks of a paged cache."""
    store = open_store(f"file://{root}")
    keys = tuple(f"{number:032x}" for number in range(chunks))
    block = chunk_bytes // buffers
    rng = np.random.default_rng(0)
    memory = np.ones(chunks * buffers * block, np.uint8)
    order = rng.permutation(chunks * buffers)
    blocks = [memory.data[i * block : (i + 1) * block] for i in order]
    for key in keys:
        store.write(key, [rng.bytes(buffers * block)])
    return Job(
        store=store,
        keys=keys,
        paths=tuple(root / key[:2] / f"{key}.kv" for key in keys),
        targets=tuple(tuple(blocks[i * buffers : (i + 1) * buffers]) for i in range(chunks)),
        memory=memory,
    )


def alternate(job: Job, contestants: Sequence[Side], repeat: int) -> dict[str, list[float]]:
    """Seconds of each side in each round; A B, B A, A B, ... after one round that does not count."""
    seconds: dict[str, list[float]] = {side.name: [] for side in contestants}
    for number in range(repeat + 1):
        for side in contestants if number % 2 else contestants[::-1]:
            begin = time.perf_counter()
            side.run(job)
            if number:
                seconds[side.name].append(time.perf_counter() - begin)
    return seconds


def same_bytes(job: Job, contestants: Sequence[Side]) -> None:
    """Refuse to compare sides that do not do the same."""
    results = []
    for side in contestants:
        job.memory[:] = 0
        side.run(job)
        results.append(job.memory.copy())
    if not all((result == results[0]).all() for result in results) or not results[0].any():
        raise SystemExit("the sides do not read the same bytes")


def ratio(base: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """Rate of ``other`` over that of ``base``: median of the rounds' ratios and its 95% bootstrap interval."""
    rounds = np.asarray(base) / np.asarray(other)
    draws = np.random.default_rng(0).choice(rounds, (10_000, rounds.size))
    low, high = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
    return float(np.median(rounds)), float(low), float(high)


def report(job: Job, contestants: Sequence[Side], seconds: dict[str, list[float]]) -> None:
    base = contestants[0].name
    for side in contestants:
        median = statistics.median(seconds[side.name])
        print(f"{side.name:>16}: median {median * 1e3:7.2f} ms  {job.bytes / median / 1e9:5.2f} GB/s")
    for side in contestants[1:]:
        middle, low, high = ratio(seconds[base], seconds[side.name])
        print(f"{side.name} / {base}: {middle:.3f} of the rate (95%: {low:.3f} to {high:.3f}, {len(seconds[base])} rounds)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, help="where to write the chunks; a temporary directory by default")
    parser.add_argument("--chunks", type=int, default=16)
    parser.add_argument("--chunk-mib", type=float, default=12)
    parser.add_argument("--buffers", type=int, default=48, help="of each chunk")
    parser.add_argument("--repeat", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="ttft-preadv-") as root:
        job = prepare(Path(root), options.chunks, int(options.chunk_mib * MIB), options.buffers)
        cached = job.store.cached_fraction(job.keys)
        shown = "unknown" if cached is None else f"{cached:.0%}"
        print(f"{options.chunks} chunks, {job.bytes / MIB:.0f} MiB, {options.buffers} buffers each; in the page cache: {shown}")
        same_bytes(job, sides())
        report(job, sides(), alternate(job, sides(), options.repeat))


if __name__ == "__main__":
    main()
