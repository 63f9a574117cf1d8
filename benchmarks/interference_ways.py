"""The ways of `interference.py`: each fills the same memory from the same bytes, layer after layer."""

import asyncio
import ctypes
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.stores.base import Read, Store, open_store


@dataclass(frozen=True)
class Load:
    """Ranges of ``size`` bytes by layer and chunk: in ``files[chunk]``, and each in a file of its own (``alone``)."""

    store: Store
    files: list[str]
    alone: list[list[str]]
    reads: list[list[Read]]
    size: int
    memory: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    wanted: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

    @property
    def bytes(self) -> int:
        return self.memory.nbytes

    @classmethod
    def prepare(cls, root: Path, layers: int, chunks: int, size: int, parts: int) -> "Load":
        """Write the files; the buffers of a range lie apart, as the blocks of a paged cache do."""
        store = open_store(f"file://{root}/kv")
        memory = np.zeros(layers * chunks * size, np.uint8)
        rng = np.random.default_rng(0)
        block = size // parts
        places = rng.permutation(layers * chunks * parts).reshape(layers, chunks, parts)
        wanted = np.empty_like(memory)
        files, alone, reads = [], [[""] * chunks for _ in range(layers)], [[] for _ in range(layers)]  # type: ignore[var-annotated]
        for chunk in range(chunks):
            key = f"{chunk:032x}"
            data = rng.integers(0, 256, layers * size, np.uint8)
            store.write(key, [data.data])
            files.append(f"{root}/kv/{key[:2]}/{key}.kv")
            for layer in range(layers):
                alone[layer][chunk] = f"{root}/{layer}-{chunk}"
                Path(alone[layer][chunk]).write_bytes(data[layer * size : (layer + 1) * size].tobytes())
                buffers = []
                for part, place in enumerate(places[layer, chunk]):
                    buffers.append(memory.data[place * block : (place + 1) * block])
                    begin = layer * size + part * block
                    wanted[place * block : (place + 1) * block] = data[begin : begin + block]
                reads[layer].append(Read(key, layer * size, tuple(buffers)))
        return cls(store, files, alone, reads, size, memory, wanted)

    def check(self, way: "Way") -> None:
        """Refuse a way that does not bring the same bytes."""
        self.memory[:] = 0
        way.load(self)
        if way.same_places and not (self.memory == self.wanted).all():
            raise SystemExit(f"{way.name} does not read the right bytes")


@dataclass(frozen=True)
class Way:
    """``load`` brings everything and returns then."""

    name: str
    load: Callable[[Load], None]
    close: Callable[[], None] = lambda: None
    same_places: bool = True
    """Whether the bytes come to where the other ways bring them."""


def threads(load: Load, count: int) -> Way:
    """Today's readers: a call of the file store a range, by several Python threads."""
    pool = ThreadPoolExecutor(count)

    def run(load: Load) -> None:
        for done in [pool.submit(load.store.read, [item]) for layer in load.reads for item in layer]:
            done.result()

    return Way(f"{count} threads, a call a range", run, pool.shutdown)


def batches(load: Load, count: int) -> Way:
    """One Python thread, a call of the file store a layer."""

    def run(load: Load) -> None:
        for layer in load.reads:
            load.store.read(layer)

    return Way("1 thread, a call a layer", run)


def event_loop(load: Load, count: int) -> Way:
    """`aread` of the file store: an event loop over as many threads."""
    loop = asyncio.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(count))

    async def all_of_it(load: Load) -> None:
        free = asyncio.Semaphore(count)

        async def one(item: Read) -> None:
            async with free:
                await load.store.aread([item])

        await asyncio.gather(*(one(item) for layer in load.reads for item in layer))

    def close() -> None:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    return Way(f"event loop over {count} threads", lambda load: loop.run_until_complete(all_of_it(load)), close)


def addresses(reads: Sequence[Read]) -> list[tuple[int, int, int]]:
    """Address, length and position in the batch of each buffer."""
    return [
        (ctypes.addressof(ctypes.c_char.from_buffer(part)), part.nbytes, position)
        for position, item in enumerate(reads)
        for part in item.out
    ]


def _nixl(name: str, setting: dict[str, str]) -> Way:
    os.environ.setdefault("NIXL_LOG_LEVEL", "ERROR")
    try:
        from nixl._api import nixl_agent, nixl_agent_config
    except ImportError:
        from nixl_cu12._api import nixl_agent, nixl_agent_config  # the package for CUDA 12 alone, which needs no GPU

    agent = nixl_agent("ttft", nixl_agent_config(enable_prog_thread=False, backends=[]))
    agent.create_backend("POSIX", setting)
    agent.register_memory([(4096, (1 << 47) - 8192, 0, "")], "DRAM")  # POSIX pins nothing: bookkeeping

    def fetch(load: Load, layer: int) -> None:
        files = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in load.files]
        registered = agent.register_memory([(0, 0, file, "") for file in files], "FILE")
        local, remote = [], []
        at = 0
        for address, length, chunk in addresses(load.reads[layer]):
            local.append((address, length, 0))
            remote.append((layer * load.size + at % load.size, length, files[chunk]))
            at += length
        work = agent.initialize_xfer("READ", agent.get_xfer_descs(local, "DRAM"), agent.get_xfer_descs(remote, "FILE"), "ttft")
        state = agent.transfer(work)
        while state == "PROC":
            time.sleep(20e-6)
            state = agent.check_xfer_state(work)
        agent.release_xfer_handle(work)
        agent.deregister_memory(registered)
        for file in files:
            os.close(file)
        if state != "DONE":
            raise SystemExit(f"{name}: {state}")

    def run(load: Load) -> None:
        for layer in range(len(load.reads)):
            fetch(load, layer)

    return Way(name, run)


def nixl_aio(load: Load, count: int) -> Way:
    """NIXL's POSIX plugin by libaio, a transfer a layer."""
    return _nixl("nixl (AIO), a call a layer", {"use_aio": "true"})


def nixl_uring(load: Load, count: int) -> Way:
    """The same by io_uring."""
    return _nixl("nixl (io_uring), a call a layer", {"use_uring": "true"})


def runai(load: Load, count: int) -> Way:
    """Run:ai's streamer in C++ threads: a submission a layer, a response a buffer."""
    from runai_model_streamer.libstreamer.libstreamer import runai_end, runai_request, runai_response, runai_start

    os.environ["RUNAI_STREAMER_CONCURRENCY"] = str(count)
    streamer = runai_start()

    def run(load: Load) -> None:
        wanted = 0
        for layer, reads in enumerate(load.reads):
            places = addresses(reads)
            parts = len(places) // len(reads)
            sizes = [length for _, length, _ in places]
            offsets = [layer * load.size + position % parts * length for position, (_, length, _) in enumerate(places)]
            runai_request(streamer, load.files, [parts] * len(reads), offsets, sizes, [place for place, _, _ in places])
            wanted += len(places)
        for _ in range(wanted):
            response = runai_response(streamer)
            if response is None or response[0]:
                raise SystemExit(f"the Run:ai streamer answers {response}")

    return Way(f"Run:ai streamer, {count} threads of its own", run, lambda: runai_end(streamer))


def fs_io(load: Load, count: int) -> Way:
    """vLLM's reader in C: whole files, each into one buffer; a call a layer."""
    from vllm import fs_io_C

    def run(load: Load) -> None:
        for layer, paths in enumerate(load.alone):
            begin = layer * len(paths) * load.size
            out = [load.memory.data[begin + k * load.size : begin + (k + 1) * load.size] for k in range(len(paths))]
            fs_io_C.batch_load_block(paths, out, False)

    return Way("vLLM's fs_io_C, a call a layer", run, same_places=False)


def native_floor(load: Load, count: int) -> Way:
    """One preadv a chunk for everything, into memory in order: as few calls as there are files."""

    def run(load: Load) -> None:
        length = load.bytes // len(load.files)
        for chunk, path in enumerate(load.files):
            file: Any = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            os.preadv(file, [load.memory.data[chunk * length : (chunk + 1) * length]], 0)
            os.close(file)

    return Way("1 thread, a call a chunk", run, same_places=False)


WAYS: list[Callable[[Load, int], Way]] = [threads, batches, event_loop, nixl_aio, nixl_uring, runai, fs_io, native_floor]
