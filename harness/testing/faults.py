"""What may stand in a store instead of a chunk."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from harness.core.chunks import ChunkKey, KVGeometry, Layout
from harness.testing.small_kv import SmallKV, chunk_key, chunk_object

Damage = Callable[[KVGeometry, ChunkKey], bytes]


def _cut(size: Callable[[Layout], int]) -> Damage:
    return lambda geometry, key: chunk_object(geometry, key)[: size(Layout(geometry))]


def flip(position: int) -> Damage:
    """One bit of the byte at ``position``."""

    def damage(geometry: KVGeometry, key: ChunkKey) -> bytes:
        data = bytearray(chunk_object(geometry, key))
        data[position] ^= 1
        return bytes(data)

    return damage


def _other_model(geometry: KVGeometry, key: ChunkKey) -> bytes:
    other = replace(geometry, dtype="uint16" if geometry.dtype != "uint16" else "int16")  # the same sizes
    return chunk_object(other, key)


FAULTS: Mapping[str, Damage | None] = {
    "missing": None,
    "empty": _cut(lambda layout: 0),
    "ends in the header": _cut(lambda layout: 100),
    "ends in the first layer": _cut(lambda layout: layout.header_bytes + 100),
    "ends in the last layer": _cut(lambda layout: layout.total_bytes - layout.padding - 1),
    "not ours": lambda geometry, key: b"something else".ljust(Layout(geometry).total_bytes),
    "header damaged": flip(64),  # in the first checksum
    "of another model": _other_model,
    "of another chunk": lambda geometry, key: chunk_object(geometry, chunk_key("quite another")),
}
"""Reasons why a chunk cannot be had, by what is wrong with it."""


def spoiled(geometry: KVGeometry, key: ChunkKey, fault: str) -> bytes | None:
    """What one of ``FAULTS`` puts in the place of chunk ``key``; None for nothing."""
    damage = FAULTS[fault]
    return None if damage is None else damage(geometry, key)


def spoil(kv: SmallKV, key: ChunkKey, fault: str) -> None:
    """Put one of ``FAULTS`` in the place of chunk ``key``."""
    data = spoiled(kv.cache.geometry, key, fault)
    if data is None:
        kv.store.delete([key])
    else:
        kv.store.write(key, [data])


def flip_a_bit(kv: SmallKV, key: ChunkKey, layer: int) -> None:
    """Change one bit of one layer of a stored chunk; its header stays right."""
    kv.store.write(key, [flip(Layout(kv.cache.geometry).offset(layer) + 5)(kv.cache.geometry, key)])
