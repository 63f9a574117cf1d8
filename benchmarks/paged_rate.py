"""How near the engines come to a bare preadv loop into the paged KV cache: same files, same blocks, page cache warm.

    python benchmarks/paged_rate.py [--dir D] [--chunks 16] [--repeat 15]

The geometry is that of the built-in model: 24 layers, blocks of 128 tokens and 256 KiB a layer, two blocks
a chunk: 12 MiB. Chunks lie in blocks that are scattered over the cache. The sides take turns.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from preadv import MIB, Job, Side, alternate, bare_preadv, report, same_bytes

from harness.connector.settings import parse_arm
from harness.core.chunks import ChunkKey, Layout, LoadRequest, checksum, encode_header
from harness.core.spans import Recorder
from harness.engines.base import Engine
from harness.engines.paged import PagedKV
from harness.stores.base import open_store

LAYERS, BLOCK_TOKENS, CHUNK_BLOCKS = 24, 128, 2


def load_by(engine: Engine, request: LoadRequest) -> Side:
    def run(_: Job) -> None:
        engine.begin_load([request])
        for layer in range(LAYERS):
            engine.wait_layer(layer)
        if engine.end_load():
            raise SystemExit("a chunk could not be loaded")

    return Side(engine.name, run)


def prepare(root: Path, chunks: int) -> tuple[Job, PagedKV, LoadRequest]:
    """A touched cache, twice as large as needed, and the chunk files."""
    memory = np.ones(LAYERS * 2 * chunks * CHUNK_BLOCKS * 256 * 1024, np.uint8)
    cache = torch.from_numpy(memory).view(torch.bfloat16).view(LAYERS, 2 * chunks * CHUNK_BLOCKS, 8, BLOCK_TOKENS, 128)
    paged = PagedKV(list(cache.unbind(0)), CHUNK_BLOCKS, BLOCK_TOKENS)
    layout = Layout(paged.geometry)
    store = open_store(f"file://{root}")
    rng = np.random.default_rng(0)
    keys = tuple(ChunkKey(f"{number:032x}") for number in range(chunks))
    for key in keys:
        layers = [rng.bytes(paged.geometry.layer_bytes) for _ in range(LAYERS)]
        store.write(key, [encode_header(layout, key, [checksum(layer) for layer in layers]), *layers])
    blocks = tuple(int(block) for block in rng.permutation(2 * chunks * CHUNK_BLOCKS)[: chunks * CHUNK_BLOCKS])
    targets = tuple(
        tuple(view for layer in range(LAYERS) for view in paged.targets(layer, blocks[i * CHUNK_BLOCKS : (i + 1) * CHUNK_BLOCKS]))
        for i in range(chunks)
    )
    paths = tuple(root / key[:2] / f"{key}.kv" for key in keys)
    return Job(store, keys, paths, targets, memory), paged, LoadRequest("benchmark", keys, blocks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, help="where to write the chunks; a temporary directory by default")
    parser.add_argument("--chunks", type=int, default=16)
    parser.add_argument("--repeat", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="ttft-paged-") as root:
        job, paged, request = prepare(Path(root), options.chunks)
        cached = job.store.cached_fraction(job.keys)
        print(f"{options.chunks} chunks, {job.bytes / MIB:.0f} MiB of KV; in the page cache: {cached:.0%}")
        arms = [parse_arm(text) for text in ("chunkwise:pool=0", "chunkwise:pool=8", "layerwise:depth=24")]
        engines = [arm.engine(job.store, paged, arm.options, Recorder(enabled=False)) for arm in arms]
        sides = [Side("bare preadv", partial(bare_preadv, offset=Layout(paged.geometry).header_bytes))]
        sides += [Side(arm.name, load_by(engine, request).run) for arm, engine in zip(arms, engines, strict=True)]
        same_bytes(job, sides)
        report(job, sides, alternate(job, sides, options.repeat))
        for engine in engines:
            engine.close()


if __name__ == "__main__":
    main()
