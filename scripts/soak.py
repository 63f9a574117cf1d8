"""A real server for a long time under faults: does it give right answers, and does nothing grow?

    make soak        or        .venv/bin/python scripts/soak.py [--minutes 20] [--clients 4] [--faults 0.01] [--out FOLDER]

``ttft serve`` with a small model in float32 over a Redis server. A share of what Redis answers comes late, in drops, cut off or
not at all (the connection is reset), and a share of the stored objects is damaged every second. Clients send prompts that
share beginnings, by every arm, and now and then hang up. Each answer has to equal the one that was computed without the store.
After a quarter of the time the descriptors, threads and memory of each process must not grow, and connections to the store must
never be more than its pools may hold. Exit code 1 where one of that does not hold, 2 where it could not be tried.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil  # type: ignore[import-untyped]
import redis

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from harness.core.errors import SetupError, TtftError  # noqa: E402
from harness.replay.over_http import HttpEngine, connected  # noqa: E402
from harness.testing.faulty_proxy import FaultyProxy  # noqa: E402
from harness.workloads.base import token_block  # noqa: E402

MODEL = "builtin:layers=4,hidden=128,intermediate=256,heads=2,kv_heads=1,head_dim=32,vocabulary=2048"
"""Small in KV, so that a layer of a chunk is one piece of a reply: a share of faults is then one of layers."""
ARMS = (
    "layerwise:depth=2,readers=4,verify=1,deadline_ms=500",
    "layerwise:loops=1,readers=4,verify=1,deadline_ms=500",
    "chunkwise:pool=4,verify=1,deadline_ms=500",
)
RECOMPUTE = "recompute"
CHUNK = 128
"""As long as vLLM's block on a CPU is."""
OUTPUT = 8
HEADS, TAILS = 4, 6
"""Prompts: each of the tails behind each of the heads."""
HANG_UP = 0.01
"""Share of requests whose client leaves at once."""
EVERY_S = 1.0

CONNECTIONS = 4
"""Of each pool of the store. Pools fill for as long as there are new heights of what goes on at once, which looks like a leak in
an hour as in a minute; so they are small, and what counts is whether there are more connections than they may hold."""
MOST_CONNECTIONS = 3 * CONNECTIONS
"""Pools of a process: blocking reads, the reads of its one event loop, and redis-py's for all that is not timed."""

ALLOWED: Mapping[str, tuple[float, float]] = {"descriptors": (0.1, 8), "threads": (0.1, 4), "MiB": (0.03, 16)}
"""How much more there may be at the end than after the first quarter: a share, and as many as that at least."""


@dataclass
class Seen:
    """What happened, and each process's descriptors, threads and MiB by the second."""

    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    cached_tokens: int = 0
    damaged: int = 0
    held: dict[str, dict[str, list[float]]] = field(default_factory=dict)


def growth(values: Sequence[float]) -> tuple[float, float]:
    """The medians of the second and of the last quarter; the first one is for warming up."""
    quarter = max(1, len(values) // 4)
    return median(values[quarter : 2 * quarter] or values), median(values[-quarter:])


def grows(kind: str, before: float, after: float) -> bool:
    """Whether that is more than ``ALLOWED``."""
    share, least = ALLOWED[kind]
    return after - before > max(share * before, least)


def table(seen: Seen) -> tuple[str, list[str]]:
    """What each process held, and what is wrong about all of it."""
    rows = [f"{'process':28}{'':14}{'before':>10}{'after':>10}"]
    faults = [f"{seen.wrong[0]} ({len(seen.wrong)} answers in all)"] if seen.wrong else []
    faults += [f"{count} requests failed: {error}" for error, count in seen.errors.most_common(3)]
    for process, kinds in seen.held.items():
        for kind, values in kinds.items():
            before, after = growth(values)
            bad = max(values) > MOST_CONNECTIONS if kind == "connections" else grows(kind, before, after)
            rows.append(f"{process:28}{kind:14}{before:10.0f}{after:10.0f}{'  too many' if bad else ''}")
            if bad and kind == "connections":
                faults.append(f"{process} had {max(values):.0f} connections to the store, its pools may hold {MOST_CONNECTIONS}")
            elif bad:
                faults.append(f"{kind} of {process} grew from {before:.0f} to {after:.0f}")
    return "\n".join(rows), faults


def prompts() -> list[list[int]]:
    """Token ids; several share their first chunks."""
    heads = [[int(token) for token in token_block(f"head {number}", 3 * CHUNK, 2048)] for number in range(HEADS)]
    tails = [[int(token) for token in token_block(f"tail {number}", 2 * CHUNK + 20, 2048)] for number in range(TAILS)]
    return [head + tail for head in heads for tail in tails]


async def client(engine: HttpEngine, number: int, expected: Sequence[tuple[list[int], tuple[int, ...]]], seen: Seen) -> None:
    """Sends one request after the other until it is cancelled."""
    rng = random.Random(number)
    for count in range(1_000_000_000):
        position = rng.randrange(len(expected))
        tokens, wanted = expected[position]
        arm = rng.choice(ARMS)
        sending = engine.generate(f"{number}-{count}", tokens, OUTPUT, {"arm": arm})
        if rng.random() < HANG_UP:
            with suppress(TimeoutError):
                await asyncio.wait_for(sending, 0.02)
            seen.answers["left"] += 1
            continue
        outcome = await sending
        if outcome.error:
            seen.errors[outcome.error] += 1
            await asyncio.sleep(0.5)
            continue
        seen.answers[arm] += 1
        seen.cached_tokens += outcome.cached_tokens or 0
        if outcome.tokens != wanted:
            seen.wrong.append(f"prompt {position} by {arm} gave {outcome.tokens}, computed it is {wanted}")


def damage(store: redis.Redis, share: float, rng: random.Random) -> int:
    """Flip a bit of, cut or delete a share of the objects, one at least; how many."""
    count = max(1, round(share * int(store.dbsize())))
    done = 0
    for _ in range(count):
        key = store.randomkey()
        data = bytearray(store.get(key) or b"") if key else bytearray()  # type: ignore[arg-type]
        if not data:
            continue
        kind = rng.randrange(3)
        if kind == 0:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            store.set(key, bytes(data), xx=True)  # type: ignore[arg-type]
        elif kind == 1:
            store.set(key, bytes(data[: rng.randrange(len(data))]), xx=True)  # type: ignore[arg-type]
        else:
            store.delete(key)  # type: ignore[arg-type]
        done += 1
    return done


def look(server: psutil.Process, store_port: int, seen: Seen) -> None:
    """Add what each process of the server holds now; connections to the store apart from other descriptors."""
    for number, process in enumerate([server, *server.children(recursive=True)]):
        with suppress(psutil.Error):
            name = f"{number} {process.name()}"[:27]
            connections = sum(bool(one.raddr) and one.raddr.port == store_port for one in process.net_connections("tcp"))
            now = {
                "connections": connections,
                "descriptors": process.num_fds() - connections,
                "threads": process.num_threads(),
                "MiB": process.memory_info().rss / 2**20,
            }
            for kind, value in now.items():
                seen.held.setdefault(name, {}).setdefault(kind, []).append(value)


def metrics(url: str) -> list[tuple[str, str]]:
    """Our samples at /metrics."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return re.findall(r"^vllm:(ttft_(?:failed|store)\w+(?<!_created))(?:\{.*\})? (\S+)$", text, re.MULTILINE)


async def soak(url: str, server: psutil.Process, store: redis.Redis, store_port: int, options: argparse.Namespace) -> Seen:
    """Recompute every prompt, then have the clients send them for the time that was asked for. ``store`` is behind the faults,
    ``store_port`` before them."""
    seen, rng = Seen(), random.Random(1)
    async with connected(url, 60.0) as engine:
        expected = []
        for number, tokens in enumerate(prompts()):
            outcome = await engine.generate(f"first-{number}", tokens, OUTPUT, {"arm": RECOMPUTE, "save": False})
            if outcome.error:
                raise SetupError(f"a prompt could not be computed: {outcome.error}")
            expected.append((tokens, outcome.tokens))
        clients = [asyncio.create_task(client(engine, number, expected, seen)) for number in range(options.clients)]
        until = time.monotonic() + 60 * options.minutes
        while time.monotonic() < until and server.is_running() and not any(task.done() for task in clients):
            await asyncio.sleep(EVERY_S)
            seen.damaged += await asyncio.to_thread(damage, store, options.faults, rng)
            await asyncio.to_thread(look, server, store_port, seen)
        for task in clients:
            task.cancel()
        for result in await asyncio.gather(*clients, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
    return seen


def free_port() -> int:
    """Of the loopback, that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, which is ended."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=log.parent, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            process.kill()


def until_healthy(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 300) -> None:
    """Raises SetupError where the server ends or takes longer."""
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        with suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
            return
        time.sleep(0.5)
    raise SetupError(f"the server did not start: {log.read_text(errors='replace')[-500:]}; its log is {log}")


def carried_out(options: argparse.Namespace, folder: Path) -> int:
    """Start everything, soak, print; the exit code."""
    program = shutil.which("redis-server")
    if program is None:
        raise SetupError("redis-server is not installed; apt-get install redis-server")
    behind, port = free_port(), free_port()
    keep = ["--port", str(behind), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with running([program, *keep], folder / "redis.log"), FaultyProxy(behind, share=options.faults) as proxy:
        store = f"redis://127.0.0.1:{proxy.port}?timeout_s=2&connections={CONNECTIONS}"
        command = [sys.executable, "-m", "harness", "serve", "--port", str(port), "--out", str(folder / "serve")]
        command += ["--model", MODEL, "--dtype", "float32", "--store", store, "--set", f"chunk_tokens={CHUNK}"]
        command += ["--set", "load_failure_policy=recompute"]
        command += [part for arm in (*ARMS, RECOMPUTE) for part in ("--arm", arm)]
        log = folder / "serve.log"
        with running(command, log) as process, redis.Redis(port=behind) as objects:
            url = f"http://127.0.0.1:{port}"
            until_healthy(url, process, log)
            seen = asyncio.run(soak(url, psutil.Process(process.pid), objects, proxy.port, options))
            told = metrics(url)
        held, faults = table(seen)
        print(f"{sum(seen.answers.values())} answers in {options.minutes:g} minutes: {dict(seen.answers)}")
        print(f"{proxy.met} replies met a fault, {seen.damaged} objects were damaged; {seen.cached_tokens} tokens hit")
        print(", ".join(f"{name} {value}" for name, value in told), end="\n\n")
        print(held, end="\n\n")
    if not (proxy.met and seen.damaged and seen.cached_tokens):
        faults.append("nothing was tried: no reply met a fault, no object was damaged or no token hit")
    print("\n".join(f"FAILED: {fault}" for fault in faults) or "Every answer equals the computed one, and nothing grows.")
    return 1 if faults else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the options and carry them out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--faults", type=float, default=0.01, help="share of the store's replies, and of its objects each second")
    parser.add_argument("--out", type=Path, help="folder of the logs [default: a new one in the temporary folder]")
    options = parser.parse_args(arguments)
    folder = options.out or Path(tempfile.mkdtemp(prefix="ttft-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"Logs are in {folder}", flush=True)
    try:
        return carried_out(options, folder)
    except TtftError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
