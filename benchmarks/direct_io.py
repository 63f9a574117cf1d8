"""How near direct reads of the file store, from a pool of threads, come to fio's best on the same disk.

    python benchmarks/direct_io.py [--dir D] [--chunks 16] [--chunk-mib 12] [--repeat 3]

Both read every block of the same files three times, blocks of 4 and 12 MiB, with 1, 2, 4 and 8 in flight, past
the page cache. Ours is measured into aligned memory on huge pages (what PyTorch gives with
THP_MEM_ALLOC_ENABLE=1; no copy is needed) and into memory like that of vLLM's KV cache without it (64
bytes behind a page, so that most disks need a copy). fio gets huge pages as well, where its C library can.
"""

import argparse
import json
import mmap
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from harness.stores.base import Read, Store, open_store

MIB = 1 << 20
BLOCKS_MIB = (4, 12)
DEPTHS = (1, 2, 4, 8)
LOOPS = 3
HUGE_PAGE = 2 * MIB


@dataclass(frozen=True)
class Files:
    store: Store
    keys: tuple[str, ...]
    paths: tuple[Path, ...]
    size: int

    @property
    def bytes(self) -> int:
        return self.size * len(self.keys)


def prepare(root: Path, chunks: int, size: int) -> Files:
    store = open_store(f"file://{root}?direct=1")
    keys = tuple(f"{number:032x}" for number in range(chunks))
    rng = np.random.default_rng(0)
    for key in keys:
        store.write(key, [rng.bytes(size)])
    return Files(store, keys, tuple(root / key[:2] / f"{key}.kv" for key in keys), size)


def blocks(files: Files, block: int, like_kv: bool) -> list[Read]:
    """One read a block, each into memory of its own that has been touched."""
    count = files.bytes // block
    mapping = mmap.mmap(-1, files.bytes + 2 * HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if not like_kv:
        mapping.madvise(mmap.MADV_HUGEPAGE)
    memory = np.frombuffer(mapping, np.uint8)
    memory[:] = 1
    begin = -memory.ctypes.data % HUGE_PAGE + (64 if like_kv else 0)
    parts = [memory.data[begin + i * block : begin + (i + 1) * block] for i in range(count)]
    places = [(key, offset) for key in files.keys for offset in range(0, files.size, block)]
    return [Read(key, offset, (part,)) for (key, offset), part in zip(places, parts, strict=True)]


def ours(files: Files, block: int, depth: int, like_kv: bool) -> float:
    """Bytes a second of ``depth`` threads."""
    reads = blocks(files, block, like_kv)
    with ThreadPoolExecutor(depth) as pool:
        read = partial(_read_one, files.store)
        list(pool.map(read, reads))  # so that threads and their buffers exist
        begin = time.perf_counter()
        list(pool.map(read, reads * LOOPS))
        return LOOPS * files.bytes / (time.perf_counter() - begin)


def _read_one(store: Store, item: Read) -> None:
    store.read([item])


def fio(files: Files, engine: str, block: int, depth: int) -> float:
    """Bytes a second of fio: ``psync`` with ``depth`` processes, ``libaio`` with ``depth`` reads in flight."""
    jobs = depth if engine == "psync" else 1
    lines = [
        "[global]", f"ioengine={engine}", "direct=1", "rw=read", f"bs={block}", f"loops={LOOPS}",
        f"iodepth={depth if jobs == 1 else 1}", "group_reporting=1",
    ]  # fmt: skip
    for number in range(jobs):
        share = files.paths[number::jobs]
        lines += [f"[job{number}]", f"filename={':'.join(map(str, share))}", f"size={files.size * len(share)}"]
        lines += ["file_service_type=sequential", f"filesize={files.size}"]
    with tempfile.NamedTemporaryFile("w", suffix=".fio") as script:
        script.write("\n".join(lines))
        script.flush()
        command = ["fio", "--readonly", "--output-format=json", script.name]
        # Huge pages double the rate on some disks, and fio's best is wanted.
        environment = os.environ | {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"fio failed: {done.stderr.strip() or done.stdout.strip()}")
    read = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]["read"]
    if read["io_bytes"] != LOOPS * files.bytes:
        raise SystemExit(f"fio read {read['io_bytes']} bytes, not {LOOPS} times {files.bytes}")
    return float(read["bw_bytes"])


def alternate(sides: dict[str, Callable[[], float]], repeat: int) -> dict[str, list[float]]:
    """Rates of each side, round by round, each round in the other direction."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(repeat):
        order: Iterable[str] = sides if number % 2 == 0 else reversed(list(sides))
        for name in order:
            rates[name].append(sides[name]())
    return rates


def sides_of(files: Files, block: int, depth: int, with_fio: bool) -> dict[str, Callable[[], float]]:
    sides: dict[str, Callable[[], float]] = {
        "huge pages": partial(ours, files, block, depth, False),
        "like KV": partial(ours, files, block, depth, True),
    }
    if with_fio:
        sides |= {f"fio {engine}": partial(fio, files, engine, block, depth) for engine in ("psync", "libaio")}
    return sides


def table(files: Files, repeat: int, with_fio: bool, depths: Sequence[int] = DEPTHS) -> None:
    for mib in BLOCKS_MIB:
        medians: dict[str, list[float]] = {}
        print(f"blocks of {mib} MiB, GB/s (median of {repeat})")
        for depth in depths:
            rates = alternate(sides_of(files, mib * MIB, depth, with_fio), repeat)
            for name, values in rates.items():
                medians.setdefault(name, []).append(statistics.median(values))
            shown = "  ".join(f"{name} {values[-1] / 1e9:5.2f}" for name, values in medians.items())
            print(f"  {depth} in flight: {shown}")
        if with_fio:
            best = max(max(values) for name, values in medians.items() if name.startswith("fio"))
            for name in ("huge pages", "like KV"):
                print(f"  {name}: best with a pool (2 or more) {max(medians[name][1:]) / best:.3f} of fio's best")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, default=Path.cwd(), help="a directory on the disk in question")
    parser.add_argument("--chunks", type=int, default=16, help="a multiple of 8")
    parser.add_argument("--chunk-mib", type=int, default=12, help="a multiple of 12")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    if options.chunks % 8 or options.chunk_mib % 12 or options.chunks <= 0 or options.chunk_mib <= 0:
        parser.error("--chunks has to be a multiple of 8 and --chunk-mib one of 12, so that all sides read all bytes")
    with_fio = shutil.which("fio") is not None
    if not with_fio:
        print("fio is not installed: apt-get install fio; only our own rates follow")
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="ttft-direct-") as root:
        table(prepare(Path(root), options.chunks, options.chunk_mib * MIB), options.repeat, with_fio)


if __name__ == "__main__":
    main()
