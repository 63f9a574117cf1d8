"""Small paged KV caches, chunks to load into them, and a record of what must stand there afterwards."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from harness.core.chunks import SKIP, ChunkKey, KVGeometry, Layout, LoadRequest, checksum, encode_header
from harness.engines.base import Engine
from harness.engines.paged import PagedKV
from harness.stores.base import Store
from harness.testing.late_device import LateDevice


@dataclass(frozen=True)
class Shape:
    """A paged cache of random bytes: ``layers`` tensors [blocks, heads, block_tokens, width].

    ``interleaved``: the layers are views into one tensor [blocks, layers, ...], as some attention backends keep them.
    """

    width: int = 32
    dtype: torch.dtype = torch.bfloat16
    layers: int = 6
    blocks: int = 32
    heads: int = 2
    block_tokens: int = 16
    chunk_blocks: int = 2
    interleaved: bool = False

    def build(self, device: str = "cpu") -> PagedKV:
        """The cache, filled with the same random bytes each time; on ``late`` a fake device (late_device.py)."""
        port = LateDevice() if device == "late" else None
        place = "cpu" if device == "late" else device
        shape = (self.layers, self.blocks, self.heads, self.block_tokens, self.width)
        size = self.dtype.itemsize * int(np.prod(shape))
        everything = torch.frombuffer(bytearray(np.random.default_rng(0).bytes(size)), dtype=self.dtype)
        if self.interleaved:
            layers = everything.view(shape[1], shape[0], *shape[2:]).to(place).unbind(1)
        else:
            layers = everything.view(shape).to(place).unbind(0)
        return PagedKV(layers, self.chunk_blocks, self.block_tokens, port=port)


WHOLE_PAGES = Shape(interleaved=True)
"""A layer of a chunk is 4,096 bytes: no padding in the chunk file. Blocks of neighbouring layers lie side by side."""
PADDED = Shape(width=21, dtype=torch.float32)
"""A layer of a chunk is 5,376 bytes, which the chunk file pads to 8,192. Each layer is a tensor of its own."""


def chunk_key(name: str) -> ChunkKey:
    """A legal key that depends on ``name`` only."""
    return ChunkKey(hashlib.blake2b(name.encode(), digest_size=16).hexdigest())


def layer_data(geometry: KVGeometry, key: ChunkKey, layer: int) -> bytes:
    """The ``layer_bytes`` bytes that stand for layer ``layer`` of chunk ``key``; random, the same each time."""
    return np.random.default_rng([int(key, 16), layer]).bytes(geometry.layer_bytes)


def chunk_object(geometry: KVGeometry, key: ChunkKey) -> bytes:
    """The whole stored object of chunk ``key`` (harness/core/chunks.py)."""
    layout = Layout(geometry)
    layers = [layer_data(geometry, key, layer) for layer in range(geometry.layers)]
    header = encode_header(layout, key, [checksum(data) for data in layers])
    return header + b"".join(data + bytes(layout.padding) for data in layers)


def bytes_of(layer: torch.Tensor, blocks: int) -> list[bytes]:
    """What stands in each of a layer's ``blocks`` blocks, in the order in which it lies in memory."""
    inside = layer.unflatten(0, (blocks, -1))
    order = sorted(range(1, inside.dim()), key=lambda i: -inside.stride(i) if inside.shape[i] > 1 else 1)
    data = inside.permute(0, *order).contiguous().cpu().flatten().view(torch.uint8).numpy().tobytes()
    size = len(data) // blocks
    return [data[block * size : (block + 1) * size] for block in range(blocks)]


@dataclass
class SmallKV:
    """A cache and a store, and the bytes that each block of each layer has to hold."""

    cache: PagedKV
    store: Store
    wanted: list[list[bytes]] = field(init=False, repr=False)
    undefined: set[int] = field(init=False, default_factory=set)
    """Blocks that may hold anything: those of chunks that could not be loaded."""

    def __post_init__(self) -> None:
        self.wanted = [self.contents(layer) for layer in range(self.cache.geometry.layers)]

    def contents(self, layer: int) -> list[bytes]:
        """What stands in each block of a layer once the forward has come so far, read from the tensors themselves."""
        cache = self.cache
        cache.port.record(cache.port.current()).synchronize()
        return bytes_of(cache.layers[layer], cache.blocks)

    def put(self, *names: str) -> tuple[ChunkKey, ...]:
        """Store the chunks of these names, and return their keys."""
        keys = tuple(map(chunk_key, names))
        for key in keys:
            self.store.write(key, [chunk_object(self.cache.geometry, key)])
        return keys

    def request(self, name: str, chunks: int, blocks: Sequence[int]) -> LoadRequest:
        """A request for ``chunks`` chunks that were stored for it just now."""
        return LoadRequest(name, self.put(*(f"{name}/{i}" for i in range(chunks))), tuple(blocks))

    def blocks_of(self, request: LoadRequest, index: int) -> tuple[int, ...]:
        """The blocks of chunk number ``index`` of a request, without SKIP."""
        per = self.cache.geometry.chunk_blocks
        return tuple(block for block in request.blocks[index * per : (index + 1) * per] if block != SKIP)

    def settle(self) -> None:
        """What stands in undefined blocks now is what has to stay there."""
        for layer in range(self.cache.geometry.layers) if self.undefined else ():
            found = self.contents(layer)
            for block in self.undefined:
                self.wanted[layer][block] = found[block]
        self.undefined.clear()

    def expect(self, request: LoadRequest, lost: Iterable[ChunkKey] = ()) -> None:
        """From now on the request's blocks must hold its chunks; those of ``lost`` chunks may hold anything."""
        geometry = self.cache.geometry
        lost = set(lost)
        for index, key in enumerate(request.chunks):
            blocks = request.blocks[index * geometry.chunk_blocks : (index + 1) * geometry.chunk_blocks]
            if key in lost:
                self.undefined.update(block for block in blocks if block != SKIP)
                continue
            self.undefined.difference_update(blocks)
            for layer in range(geometry.layers):
                data = layer_data(geometry, key, layer)
                for position, block in enumerate(blocks):
                    if block != SKIP:
                        self.wanted[layer][block] = data[position * geometry.block_bytes :][: geometry.block_bytes]

    def check(self, layer: int) -> None:
        """Every block of the layer holds what it must: that of its chunk, or what it held before."""
        wrong = [
            block
            for block, (found, wanted) in enumerate(zip(self.contents(layer), self.wanted[layer], strict=True))
            if found != wanted and block not in self.undefined
        ]
        assert not wrong, f"wrong bytes in blocks {wrong} of layer {layer}"

    def check_all(self) -> None:
        """``check`` of every layer."""
        for layer in range(self.cache.geometry.layers):
            self.check(layer)

    def step(self, engine: Engine, batch: Sequence[LoadRequest], lost: Iterable[ChunkKey] = ()) -> frozenset[int]:
        """One whole step, each layer checked as soon as its wait is over; returns what ``end_load`` returned."""
        lost = set(lost)
        self.settle()
        for request in batch:
            self.expect(request, lost)
        engine.begin_load(batch)
        for layer in range(self.cache.geometry.layers):
            engine.wait_layer(layer)
            self.check(layer)
        failed = engine.end_load()
        self.check_all()
        return failed
