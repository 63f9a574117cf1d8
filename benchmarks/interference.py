"""What readers take from a forward that runs beside them: slowdown of the forward, and bytes a second, each way in turns.

    python benchmarks/interference.py [--seconds 240] [--forwards matrices,launches]

A load is chunks x layers ranges of files in the page cache, each scattered into a few buffers, asked for layer after layer as
`layerwise` does. The forward is a loop of matrix products under torch's threads, sized like a model's layers, or a Python
thread that launches many tiny operators, as in front of a GPU. Both begin at once; the forward's time over that of the
forward alone in the same round is the slowdown. A way whose package is missing is left out, with the reason.

NIXL and the Run:ai streamer need no GPU: pip install nixl-cu12 runai-model-streamer. vLLM's fs_io_C reads whole files, so its
files are those of `layout=layer`.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from interference_ways import WAYS, Load, Way
from preadv import ratio

LAYERS, CHUNKS, RANGE, PARTS = 24, 8, 512 << 10, 4
TOKENS, HIDDEN, WIDE = 32, 1024, 2816

Forward = Callable[[], None]


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


def launches(seconds: float) -> Forward:
    """Operators too small to compute anything, as many as one thread launches in ``seconds``."""
    tiny = torch.zeros(8)

    def launch(count: int) -> None:
        for _ in range(count):
            tiny.add_(1)

    launch(10_000)
    begin = time.perf_counter()
    launch(10_000)
    count = int(10_000 * seconds / (time.perf_counter() - begin))
    return lambda: launch(count)


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


def measure(forward: Forward, load: Load, ways: Sequence[Way], until: float) -> dict[str, list[tuple[float, float]]]:
    """Rounds until the time is over, at least 3: every way once, and the forward alone, in an order of the round's own."""
    found: dict[str, list[tuple[float, float]]] = {"alone": [], **{way.name: [] for way in ways}}
    rng = np.random.default_rng(0)
    turns: list[Way | None] = [None, *ways]
    with ThreadPoolExecutor(1) as thread:
        for way in turns:  # does not count
            together(forward, load, way, thread)
        while time.monotonic() < until or len(found["alone"]) < 3:
            for position in rng.permutation(len(turns)):
                way = turns[position]
                found["alone" if way is None else way.name].append(together(forward, load, way, thread))
    return found


def report(title: str, load: Load, found: dict[str, list[tuple[float, float]]]) -> None:
    alone = [forward for forward, _ in found["alone"]]
    names = [name for name in found if name != "alone"]
    base = [loading for _, loading in found[names[0]]]
    print(f"\n{title}: {1e3 * float(np.median(alone)):.1f} ms alone, {len(alone)} rounds; medians, 95% intervals in brackets")
    print(f"| way | forward / alone | bytes a second / {names[0]} | load, ms |")
    print("|---|---|---|---|")
    for name in names:
        slower = ratio([forward for forward, _ in found[name]], alone)
        faster = ratio(base, [loading for _, loading in found[name]])
        shown = [f"{middle:.2f} ({low:.2f} to {high:.2f})" for middle, low, high in (slower, faster)]
        milliseconds = 1e3 * float(np.median([loading for _, loading in found[name]]))
        print(f"| {name} | {shown[0]} | {shown[1] if name != names[0] else '1'} | {milliseconds:.1f} |")
    print(f"({names[0]}: {load.bytes / float(np.median(base)) / 1e9:.2f} GB/s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=240, help="in all, without the start")
    parser.add_argument("--forwards", default="matrices,launches")
    parser.add_argument("--dir", type=Path, help="where to write the files; a temporary directory by default")
    parser.add_argument("--threads", type=int, default=8, help="of the ways that have some")
    options = parser.parse_args()
    forwards = options.forwards.split(",")
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
        compute = matrices()
        with ThreadPoolExecutor(1) as thread:
            together(compute, load, None, thread)
            seconds, _ = together(compute, load, None, thread)
        for name in forwards:
            forward = compute if name == "matrices" else launches(max(seconds, 0.05))
            report(name, load, measure(forward, load, ways, time.monotonic() + options.seconds / len(forwards)))
        for way in ways:
            way.close()


if __name__ == "__main__":
    main()
