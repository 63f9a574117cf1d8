"""What the client of ``ttft compare --target`` costs, against a stand-in server in a process of its own that answers at once.

    python benchmarks/client_overhead.py [--requests 10000] [--rate 500]

Alone: TTFT of one request after the other; the server computes nothing, so all of it is client, loopback and stand-in.
Open loop: how late requests leave that are planned at ``--rate`` a second, and whether memory grows meanwhile.
"""

import argparse
import asyncio
import contextlib
import json
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from harness.replay.arrivals import parse_arrivals, times
from harness.replay.loops import open_loop
from harness.replay.outcome import Outcome
from harness.replay.over_http import HttpEngine, connected

OUTPUT_TOKENS = 3
PARAMS = {"arm": "layerwise:depth=4", "max_hit_tokens": 1024, "save": False, "namespace": "n", "label": "0/0"}


class StandIn(asyncio.Protocol):
    """Enough of HTTP/1.1 for this client: headers to a blank line, then ``Content-Length`` bytes."""

    def __init__(self) -> None:
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while True:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._received[:end])
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            if len(self._received) < end + 4 + length:
                return
            body = bytes(self._received[end + 4 : end + 4 + length])
            del self._received[: end + 4 + length]
            assert isinstance(self._transport, asyncio.Transport)
            self._transport.write(answer(head.split(b" ", 2)[1], body))


def answer(path: bytes, body: bytes) -> bytes:
    if path != b"/v1/completions":
        told = {b"/version": {"version": "0"}, b"/v1/models": {"data": [{"id": "m", "max_model_len": 1 << 20}]}}.get(path, {})
        text = json.dumps(told).encode()
        status = b"200 OK" if told else b"404 Not Found"
        return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (status, len(text), text)
    # The prompt comes back with the first token, as vLLM sends it; it is cut out, not parsed, to cost as little as possible.
    start = body.index(b'"prompt":') + 9
    prompt = body[start : body.index(b"]", start) + 1]
    first = b'{"choices":[{"token_ids":[1],"prompt_token_ids":%s}]}' % prompt
    events = [first, *[b'{"choices":[{"token_ids":[1]}]}'] * (OUTPUT_TOKENS - 1)]
    events += [b'{"choices":[],"usage":{"prompt_tokens_details":{"cached_tokens":1024}}}', b"[DONE]"]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(text), text) for text in (b"data: %s\n\n" % event for event in events))
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(StandIn, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def stand_in() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.communicate()


def quantiles(values_s: Sequence[float]) -> str:
    p50, p99, most = (1e3 * float(value) for value in np.quantile(values_s, (0.5, 0.99, 1.0)))
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, most {most:.2f} ms"


def ttft(outcome: Outcome) -> float:
    if outcome.error or outcome.first_s is None:
        raise SystemExit(f"a request failed: {outcome.error}")
    return outcome.first_s - outcome.sent_s


async def alone(engine: HttpEngine, tokens: int, count: int = 500) -> None:
    prompt = list(range(tokens))
    found = [ttft(await engine.generate(f"a{tokens}-{i}", prompt, OUTPUT_TOKENS, PARAMS)) for i in range(count)]
    print(f"alone, {tokens:>6} tokens    TTFT {quantiles(found[20:])} ({count} requests)")


async def planned(engine: HttpEngine, tokens: int, rate: float, count: int) -> None:
    prompt = list(range(tokens))
    schedule = times(parse_arrivals(f"poisson:rate={rate:g}"), [0.0] * count)
    assert schedule is not None
    lags: list[float] = []
    ttfts: list[float] = []

    async def send(position: int, at: float) -> None:
        outcome = await engine.generate(f"p{position}", prompt, OUTPUT_TOKENS, PARAMS)
        lags.append(outcome.sent_s - at)
        ttfts.append(ttft(outcome))

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await open_loop(schedule, send)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{len(lags)} planned at {rate:g}/s, {tokens} tokens each, in {schedule[-1]:.1f} s")
    print(f"  lag   {quantiles(lags)}")
    print(f"  TTFT  {quantiles(ttfts)}; memory grew by {grown / 1024:.0f} MiB")


async def main(count: int, rate: float) -> None:
    with stand_in() as url:
        async with connected(url, 30.0) as engine:
            for tokens in (32, 2080, 32_768):
                await alone(engine, tokens)
            await planned(engine, 512, rate, count)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    asyncio.run(serve() if given.serve else main(given.requests, given.rate))
