"""What readers take from a forward that runs beside them: slowdown of the forward, and bytes a second, each way in turns.

    python benchmarks/interference.py [--seconds 240] [--forwards matrices,launches]

A load is chunks x layers ranges of files in the page cache, each scattered into a few buffers, asked for layer after layer as
`layerwise` does. The forward is a loop of matrix products under torch's threads, sized like a model's layers, or a Python
thread that launches many tiny operators, as in front of a GPU. Both begin at once; the forward's time over that of the
forward alone in the same round is the slowdown. The CPU time of a load without a forward is what it costs on any machine,
also on a busy one; what holds Python's lock in it shows beside the launches. A way whose package is missing is left out, with
the reason.

NIXL and the Run:ai streamer need no GPU: pip install nixl-cu12 runai-model-streamer. vLLM's fs_io_C reads whole files, so its
files are those of `layout=layer`.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from interference_ways import WAYS, Load, Way
from preadv import ratio

LAYERS, CHUNKS, RANGE, PARTS = 24, 8, 512 << 10, 4
TOKENS, HIDDEN, WIDE = 32, 1024, 2816

Forward = Callable[[], None]


@dataclass
class Found:
    """Of one way, or of the forward alone: seconds by round."""

    forward: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Of a load without a forward, all threads together."""


def matrices() -> Forward:
    """Layers of a model of 24 x 1,024 on a few tokens: the products, without attention."""
    torch.manual_seed(0)
    inputs = torch.randn(TOKENS, HIDDEN)
    weights = [
        (torch.randn(HIDDEN, 4 * HIDDEN) / 32, torch.randn(HIDDEN, WIDE) / 32, torch.randn(WIDE, HIDDEN) / 53)
        for _ in range(LAYERS)
    ]

    def forward() -> None:
        for attention, up, down in weights:
            hidden = inputs @ attention
            hidden = (hidden[:, :HIDDEN] @ up).relu_()
            hidden @ down

    return forward


def launches() -> Forward:
    """Operators too small to compute anything, some 40 ms of them."""
    tiny = torch.zeros(8)

    def forward() -> None:
        for _ in range(40_000):
            tiny.add_(1)

    return forward


def together(forward: Forward, load: Load, way: Way | None, thread: ThreadPoolExecutor) -> tuple[float, float]:
    """Seconds of the forward, and of the load that begins with it (0 without one)."""

    def timed_load() -> float:
        begin = time.perf_counter()
        if way is not None:
            way.load(load)
        return time.perf_counter() - begin

    loading = thread.submit(timed_load) if way is not None else None
    begin = time.perf_counter()
    forward()
    taken = time.perf_counter() - begin
    return taken, loading.result() if loading is not None else 0.0


def measure(forward: Forward, load: Load, ways: Sequence[Way], until: float) -> dict[str, Found]:
    """Rounds until the time is over, at least 3: every way once, and the forward alone, in an order of the round's own."""
    found = {"alone": Found(), **{way.name: Found() for way in ways}}
    rng = np.random.default_rng(0)
    turns: list[Way | None] = [None, *ways]
    with ThreadPoolExecutor(1) as thread:
        for way in turns:  # does not count
            together(forward, load, way, thread)
        while time.monotonic() < until or len(found["alone"].forward) < 3:
            for position in rng.permutation(len(turns)):
                way = turns[position]
                here = found["alone" if way is None else way.name]
                taken, loading = together(forward, load, way, thread)
                here.forward.append(taken)
                here.load.append(loading)
                if way is not None:
                    begin = time.process_time()
                    way.load(load)
                    here.cpu.append(time.process_time() - begin)
    return found


def report(title: str, load: Load, found: dict[str, Found]) -> None:
    alone = found.pop("alone").forward
    first = next(iter(found))
    print(f"\n{title}: {1e3 * float(np.median(alone)):.1f} ms alone, {len(alone)} rounds; medians, 95% intervals in brackets")
    print(f"| way | forward / alone | bytes a second / {first} | CPU of a load / {first} | CPU of a load, ms |")
    print("|---|---|---|---|---|")
    for name, of in found.items():
        ratios = ratio(of.forward, alone), ratio(found[first].load, of.load), ratio(of.cpu, found[first].cpu)
        shown = [f"{middle:.2f} ({low:.2f} to {high:.2f})" for middle, low, high in ratios]
        beside = " | ".join(shown if name != first else (shown[0], "1", "1"))
        print(f"| {name} | {beside} | {1e3 * float(np.median(of.cpu)):.1f} |")
    print(f"({first}: {load.bytes / float(np.median(found[first].load)) / 1e9:.2f} GB/s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=240, help="in all, without the start")
    parser.add_argument("--forwards", default="matrices,launches")
    parser.add_argument("--dir", type=Path, help="where to write the files; a temporary directory by default")
    parser.add_argument("--threads", type=int, default=8, help="of the ways that have some")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="ttft-interference-") as root:
        load = Load.prepare(Path(root), LAYERS, CHUNKS, RANGE, PARTS)
        ways = []
        for make in WAYS:
            try:
                way = make(load, options.threads)
                load.check(way)
            except ImportError as error:
                print(f"left out: {make.__name__}: {error}")
            else:
                ways.append(way)
        shape = f"{LAYERS} layers x {CHUNKS} ranges of {RANGE >> 10} KiB in {PARTS} buffers"
        print(f"{shape}; {torch.get_num_threads()} threads of torch")
        kinds = {"matrices": matrices, "launches": launches}
        wanted = options.forwards.split(",")
        for name in wanted:
            report(name, load, measure(kinds[name](), load, ways, time.monotonic() + options.seconds / len(wanted)))
        for way in ways:
            way.close()


if __name__ == "__main__":
    main()
