"""How near the S3 store comes to bare HTTP, and to Amazon's own client: same ranges, same server, same memory, one process.

    python benchmarks/s3_rate.py [--ranges 32] [--kib 64 512 12288] [--buffers 16] [--repeat 15] [--endpoint URL --bucket B]

Without --endpoint it starts a file server of its own, faster than any S3 server: nginx where it is installed, else
Python's. With it, the objects are written through the store into the bucket, and deleted at the end; the two
bare sides sign nothing, so the server must let anybody read.

The sides: `socket` receives straight into the memory, `http.client` is the standard library's, `boto3` is Amazon's,
each on one connection, one range after the other; `read, one by one` is the store with a call a range, `read, one
batch` with one call for all, `aread, one batch` the same on an event loop.
"""

import argparse
import asyncio
import http.client
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np
from file_server import BUCKET, serving
from preadv import Job, Side, alternate, ratio, same_bytes

from harness.stores._bench.limits import receive
from harness.stores.base import Read, Store, open_store

KIB = 1024


@dataclass(frozen=True)
class Server:
    """Where the objects are, and under which URL path."""

    host: str
    port: int
    folder: str
    store_url: str


def bare_socket(server: Server) -> Side:
    connection = socket.create_connection((server.host, server.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = memoryview(bytearray(4096))

    def run(job: Job) -> None:
        for key, parts in zip(job.keys, job.targets, strict=True):
            length = sum(part.nbytes for part in parts)
            ask = f"GET /{server.folder}/{key}.kv HTTP/1.1\r\nHost: {server.host}\r\nRange: bytes=0-{length - 1}\r\n\r\n"
            connection.sendall(ask.encode())
            got = connection.recv_into(head)
            while (end := bytes(head[:got]).find(b"\r\n\r\n")) < 0:
                got += connection.recv_into(head[got:])
            early = head[end + 4 : got]
            for part in parts:
                done = min(len(early), part.nbytes)
                part[:done] = early[:done]
                early = early[done:]
                receive(connection, part[done:])

    return Side("socket", run)


def standard_library(server: Server) -> Side:
    connection = http.client.HTTPConnection(server.host, server.port)

    def run(job: Job) -> None:
        for key, parts in zip(job.keys, job.targets, strict=True):
            length = sum(part.nbytes for part in parts)
            connection.request("GET", f"/{server.folder}/{key}.kv", headers={"Range": f"bytes=0-{length - 1}"})
            reply = connection.getresponse()
            for part in parts:
                done = 0
                while done < part.nbytes:
                    done += reply.readinto(part[done:])
            reply.read()

    return Side("http.client", run)


def amazon(server: Server) -> Side:
    import boto3

    client: Any = boto3.client("s3", endpoint_url=f"http://{server.host}:{server.port}", region_name="us-east-1")
    bucket, _, prefix = server.folder.partition("/")

    def run(job: Job) -> None:
        for key, parts in zip(job.keys, job.targets, strict=True):
            length = sum(part.nbytes for part in parts)
            body = client.get_object(Bucket=bucket, Key=f"{prefix}/{key}.kv", Range=f"bytes=0-{length - 1}")["Body"].read()
            place = 0
            for part in parts:
                part[:] = body[place : place + part.nbytes]
                place += part.nbytes

    return Side("boto3", run)


def reads_of(job: Job) -> list[Read]:
    return [Read(key, 0, parts) for key, parts in zip(job.keys, job.targets, strict=True)]


def one_by_one(job: Job) -> None:
    for item in reads_of(job):
        job.store.read([item])


def sides(server: Server, loop: asyncio.AbstractEventLoop) -> tuple[Side, ...]:
    return (
        bare_socket(server),
        standard_library(server),
        amazon(server),
        Side("read, one by one", one_by_one),
        Side("read, one batch", lambda job: job.store.read(reads_of(job))),
        Side("aread, one batch", lambda job: loop.run_until_complete(job.store.aread(reads_of(job)))),
    )


def job_of(store: Store, ranges: int, length: int, buffers: int) -> Job:
    """Ranges of ``length`` from the start of as many objects, into memory scattered like the blocks of a paged cache."""
    block = length // buffers
    memory = np.ones(ranges * buffers * block, np.uint8)
    order = np.random.default_rng(0).permutation(ranges * buffers)
    blocks = [memory.data[i * block : (i + 1) * block] for i in order]
    keys = tuple(f"{number:032x}" for number in range(ranges))
    targets = tuple(tuple(blocks[i * buffers : (i + 1) * buffers]) for i in range(ranges))
    return Job(store, keys, (), targets, memory)


def report(job: Job, seconds: dict[str, list[float]]) -> None:
    bases = ("socket", "http.client", "boto3")
    print(f"{'':>18}{'median':>11}{'rate':>12}   rate over that of {', '.join(bases)} (95% intervals)")
    for name, times in seconds.items():
        median = float(np.median(times))
        line = f"{name:>18}{median * 1e3:>8.2f} ms{job.bytes / median / 1e9:>7.2f} GB/s"
        if name not in bases:
            shown = ("{:.2f} ({:.2f} to {:.2f})".format(*ratio(seconds[base], times)) for base in bases)
            line += "   " + "  ".join(shown)
        print(line)


@contextmanager
def somewhere(options: argparse.Namespace, keys: tuple[str, ...], length: int) -> Iterator[Server]:
    """A server that has an object of ``length`` bytes under each key."""
    rng = np.random.default_rng(1)
    if options.endpoint:
        place = urlsplit(options.endpoint)
        folder = f"{options.bucket}/ttft-rate-{uuid4().hex}"
        url = f"s3://{folder}?endpoint={options.endpoint}&region=us-east-1"
        with open_store(url) as store:
            store.write_many((key, [rng.bytes(length)]) for key in keys)
            try:
                yield Server(place.hostname or "", place.port or 80, folder, url)
            finally:
                store.delete(keys)
        return
    with tempfile.TemporaryDirectory(prefix="ttft-s3-rate-") as root:
        objects = Path(root) / BUCKET / "objects"
        objects.mkdir(parents=True)
        for parent in (Path(root), objects.parent, objects):
            parent.chmod(0o755)  # nginx reads as another user
        for key in keys:
            (objects / f"{key}.kv").write_bytes(rng.bytes(length))
        with serving(Path(root)) as (name, port):
            print(f"server: {name}")
            url = f"s3://{BUCKET}/objects?endpoint=http://127.0.0.1:{port}&region=us-east-1"
            yield Server("127.0.0.1", port, f"{BUCKET}/objects", url)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranges", type=int, default=32)
    parser.add_argument("--kib", type=int, nargs="+", default=[64, 512, 12288], help="bytes of a range")
    parser.add_argument("--buffers", type=int, default=16, help="of each range")
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--endpoint", help="http://host:port of an S3 server that lets anybody read")
    parser.add_argument("--bucket", default="kvstore")
    options = parser.parse_args()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        os.environ.setdefault(name, "nobody-checks")
    loop = asyncio.new_event_loop()
    keys = tuple(f"{number:032x}" for number in range(options.ranges))
    with somewhere(options, keys, max(options.kib) * KIB) as server, open_store(server.store_url) as store:
        for kib in options.kib:
            job = job_of(store, options.ranges, kib * KIB, options.buffers)
            contestants = sides(server, loop)
            print(f"\n{options.ranges} ranges of {kib} KiB, {options.buffers} buffers each, {options.repeat} rounds")
            same_bytes(job, contestants)
            report(job, alternate(job, contestants, options.repeat))
    loop.close()


if __name__ == "__main__":
    main()
