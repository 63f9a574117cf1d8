"""The link from pinned host memory to the GPU: a bare copy, and the same bytes in blocks. The yardstick of docs/gpu.md.

    python scripts/link_rate.py [--mib 1024] [--device cuda]

Prints JSON: GiB/s of one copy, of a copy per block, and of vLLM's batched copy where it is built in (swap_blocks_batch), by size
of a block. With --device cpu it tries itself: host memory to host memory, which says nothing about a link.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

BLOCKS_KIB = (8, 64, 256)
REPEAT = 7


def rate(copy: Callable[[], Any], size: int, device: torch.device) -> float:
    """GiB/s of ``copy``, the median of several after one to warm up."""
    seconds = []
    for _ in range(REPEAT + 1):
        synchronize(device)
        start = time.perf_counter()
        copy()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return round(size / statistics.median(seconds[1:]) / 2**30, 3)


def synchronize(device: torch.device) -> None:
    """Wait for what is queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def one_by_one(target: torch.Tensor, source: torch.Tensor, order: list[int]) -> None:
    """A copy per block, each to its place."""
    for i, place in enumerate(order):
        target[place].copy_(source[i], non_blocking=True)


def batched(target: torch.Tensor, source: torch.Tensor, order: list[int]) -> Callable[[], Any] | None:
    """All blocks in one call of vLLM's operator; None where this build has none."""
    try:
        from vllm._custom_ops import swap_blocks_batch
    except ImportError:
        return None
    width = source.shape[1]
    sources = torch.tensor([source.data_ptr() + i * width for i in range(len(order))], dtype=torch.int64)
    targets = torch.tensor([target.data_ptr() + place * width for place in order], dtype=torch.int64)
    sizes = torch.full((len(order),), width, dtype=torch.int64)
    return lambda: swap_blocks_batch(sources, targets, sizes, is_src_access_order_any=True)


def measured(size: int, device: torch.device) -> dict[str, Any]:
    """All rates of ``size`` bytes."""
    source = torch.ones(size, dtype=torch.uint8, pin_memory=device.type == "cuda")
    target = torch.empty(size, dtype=torch.uint8, device=device)
    found: dict[str, Any] = {"bytes": size, "device": str(device), "one_copy_gib_s": 0.0, "by_block_kib": {}}
    found["one_copy_gib_s"] = rate(lambda: target.copy_(source, non_blocking=True), size, device)
    for kib in BLOCKS_KIB:
        blocks = size // (kib << 10)
        rows, places = source.view(blocks, -1), target.view(blocks, -1)
        order = torch.randperm(blocks, generator=torch.Generator().manual_seed(0)).tolist()
        row = {"copy_per_block_gib_s": rate(lambda: one_by_one(places, rows, order), size, device)}  # noqa: B023
        if device.type == "cuda" and (copy := batched(places, rows, order)) is not None:
            row["batched_gib_s"] = rate(copy, size, device)
        found["by_block_kib"][str(kib)] = row
    return found


def main() -> None:
    """Print the rates of the first GPU."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mib", type=int, default=1024, help="MiB to copy; a multiple of 1")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu only tries the script")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here: run this on a node with one, or try it with --device cpu")
    print(json.dumps(measured(given.mib << 20, torch.device(given.device)), indent=2))


if __name__ == "__main__":
    main()
