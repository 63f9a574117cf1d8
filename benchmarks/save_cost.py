"""What saving costs a miss: TTFT of prompts that nobody has stored, in real vLLM, with saves off, in the step and behind it.

    python benchmarks/save_cost.py [--tokens 2048] [--repeat 8] [--model builtin]

Two engines, one after the other: ``save_threads=0`` and ``save_threads=2``. In each, requests that save and requests that
don't take turns, so the ratio within a row is that of one engine in one state of the machine.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from harness.experiment.session import Session
from harness.replay import models
from harness.replay.in_process import EngineSettings
from harness.stores.base import Store, open_store
from harness.workloads.base import token_block

CHUNK = 256


def settings(options: argparse.Namespace, url: str, trace: Path, threads: int) -> EngineSettings:
    connector = {"store": url, "arms": ["recompute"], "save": False, "save_threads": threads, "trace": str(trace)}
    return EngineSettings(
        model=models.resolve(options.model, "bfloat16").path,
        dtype="bfloat16",
        max_model_len=options.tokens + 256,
        kv_cache_bytes=2 * 2**30,
        connector=connector,
    )


async def measure(options: argparse.Namespace, store: Store, url: str, folder: Path, threads: int) -> dict[bool, list[float]]:
    """Seconds to the first token, by whether the request saves."""
    session = Session.start(settings(options, url, folder / "trace", threads), store, folder, CHUNK)
    found: dict[bool, list[float]] = {True: [], False: []}
    try:
        for number in range(-2, 2 * options.repeat):
            save = bool(number % 2)
            prompt = [int(token) for token in token_block(f"{threads} {number}", options.tokens + 9, 2000)]
            outcome = await session.send("recompute", prompt, 1, "benchmark", hit=0, save=save)
            if number >= 0 and outcome.first_s is not None:
                found[save].append(outcome.first_s - outcome.sent_s)
            if save:
                await settle(session, session.keys(prompt, "benchmark"))
    finally:
        session.close()
    return found


async def settle(session: Session, keys: Sequence[str]) -> None:
    """Until these chunks are saved, so that no request runs beside the saves of the one before."""
    until = time.monotonic() + 60
    while not all(key in session.trace.saved for key in keys) and time.monotonic() < until:
        await asyncio.sleep(0.02)
        session.trace.poll()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--repeat", type=int, default=8)
    parser.add_argument("--model", default="builtin")
    options = parser.parse_args()
    for threads in (0, 2):
        with tempfile.TemporaryDirectory(prefix="ttft-save-") as folder:
            url = f"file://{folder}/kv"
            with open_store(url) as store:
                found = asyncio.run(measure(options, store, url, Path(folder) / "run", threads))
        off, on = (statistics.median(found[save]) for save in (False, True))
        print(f"save_threads={threads}: without saving {off * 1e3:.0f} ms, with {on * 1e3:.0f} ms, {on / off:.3f} times as long")


if __name__ == "__main__":
    main()
