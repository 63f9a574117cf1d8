"""The on-store format: what was written comes back, and nothing else passes."""

import dataclasses
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.chunks import (
    ALIGNMENT,
    ChunkKey,
    KVGeometry,
    Layout,
    aligned,
    chain,
    check_header,
    check_layer,
    checksum,
    checksum_parts,
    encode_header,
    for_rank,
    root,
)
from harness.core.errors import ChunkCorrupt, ChunkInvalid, ChunkTruncated, ForeignChunk, NotAChunk

GEOMETRY = KVGeometry(layers=3, block_tokens=4, block_bytes=5000, chunk_blocks=2, dtype="float32")
LAYOUT = Layout(GEOMETRY)
KEY, OTHER_KEY = chain(root({}), range(16), 8)
CHECKSUMS = (1, 2**64 - 1, 12345)
HEADER = encode_header(LAYOUT, KEY, CHECKSUMS)
MEANING = 64 + 8 * 3 + 8
"""Bytes of the header before its padding."""

GEOMETRIES = st.builds(
    KVGeometry,
    layers=st.integers(1, 700),
    block_tokens=st.integers(1, 256),
    block_bytes=st.integers(1, 1 << 22),
    chunk_blocks=st.integers(1, 8),
    dtype=st.sampled_from(["bfloat16", "float32"]),
)
DIGESTS = st.binary(min_size=16, max_size=16).map(lambda digest: ChunkKey(digest.hex()))


@settings(deadline=None)
@given(GEOMETRIES, DIGESTS, st.data())
def test_a_header_comes_back(geometry: KVGeometry, key: ChunkKey, data: st.DataObject) -> None:
    layout = Layout(geometry)
    seed = data.draw(st.integers(0, 2**64 - 1))
    checksums = tuple((seed * (i + 1)) % 2**64 for i in range(geometry.layers))
    header = encode_header(layout, key, checksums)
    assert len(header) == layout.header_bytes
    assert check_header(layout, key, header) == checksums
    assert check_header(layout, for_rank(key, 1, 2), memoryview(bytearray(header))) == checksums


@settings(deadline=None)
@given(GEOMETRIES)
def test_every_layer_is_an_aligned_range_and_none_overlap(geometry: KVGeometry) -> None:
    layout = Layout(geometry)
    offsets = [layout.offset(layer) for layer in range(geometry.layers + 1)]
    assert all(offset % ALIGNMENT == 0 for offset in offsets)
    assert all(after - before >= geometry.layer_bytes for before, after in pairwise(offsets))
    assert offsets[0] == layout.header_bytes >= 64 + 8 * geometry.layers + 8
    assert offsets[-1] == layout.total_bytes
    assert 0 <= layout.padding < ALIGNMENT


def test_a_layer_that_is_not_there_has_no_offset() -> None:
    for layer in (-1, 4):
        with pytest.raises(IndexError, match="of 3"):
            LAYOUT.offset(layer)


def test_a_header_cut_anywhere_is_refused() -> None:
    for length in range(MEANING):
        with pytest.raises(NotAChunk if length < 8 else ChunkTruncated):
            check_header(LAYOUT, KEY, HEADER[:length])


def test_only_the_padding_may_be_missing() -> None:
    assert check_header(LAYOUT, KEY, HEADER[:MEANING]) == CHECKSUMS


@pytest.mark.parametrize(
    ("field", "places", "expected"),
    [
        ("magic", range(8), (NotAChunk,)),
        ("version", range(8, 10), (ForeignChunk,)),
        ("layers", range(10, 12), (ChunkTruncated, ChunkCorrupt)),  # the header then seems to end elsewhere
        ("all else", range(12, MEANING), (ChunkCorrupt,)),
    ],
)
def test_any_flipped_bit_is_refused(field: str, places: range, expected: tuple[type[ChunkInvalid], ...]) -> None:
    for bit in range(8 * places.start, 8 * places.stop):
        flipped = bytearray(HEADER)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ChunkInvalid) as caught:
            check_header(LAYOUT, KEY, flipped)
        assert type(caught.value) in expected, f"bit {bit} of {field}"


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ChunkInvalid):
        check_header(LAYOUT, KEY, data)


@pytest.mark.parametrize(
    "change", [{"layers": 2}, {"block_tokens": 8}, {"block_bytes": 4096}, {"chunk_blocks": 1}, {"dtype": "bfloat16"}]
)
def test_another_geometry_is_foreign(change: dict[str, Any]) -> None:
    other = Layout(dataclasses.replace(GEOMETRY, **change))
    with pytest.raises(ForeignChunk, match="another model or cache layout"):
        check_header(other, KEY, HEADER)


def test_another_key_is_foreign() -> None:
    with pytest.raises(ForeignChunk, match=OTHER_KEY):
        check_header(LAYOUT, OTHER_KEY, encode_header(LAYOUT, KEY, CHECKSUMS))


@pytest.mark.parametrize("header", [b"", HEADER[:70], HEADER[:40] + b"!" + HEADER[41:]])
def test_a_refusal_names_the_chunk_and_a_fix(header: bytes) -> None:
    with pytest.raises(ChunkInvalid, match=f"{KEY}.*; delete it"):
        check_header(LAYOUT, KEY, header)


def test_a_header_needs_a_checksum_a_layer() -> None:
    with pytest.raises(ValueError, match="2 checksums for 3 layers"):
        encode_header(LAYOUT, KEY, CHECKSUMS[:2])


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=6))
def test_parts_have_the_checksum_of_the_whole(parts: list[bytes]) -> None:
    assert checksum_parts(parts) == checksum(b"".join(parts))


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=200), st.data())
def test_a_flipped_bit_in_a_layer_is_found(data: bytes, draw: st.DataObject) -> None:
    expected = checksum(data)
    check_layer(KEY, 1, expected, [data[:3], data[3:]])
    bit = draw.draw(st.integers(0, 8 * len(data) - 1))
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ChunkCorrupt, match=f"layer 1 of chunk {KEY}"):
        check_layer(KEY, 1, expected, [memoryview(flipped)])


@settings(deadline=None)
@given(st.integers(0, 1 << 40))
def test_aligned_is_the_next_multiple(size: int) -> None:
    assert aligned(size) % ALIGNMENT == 0
    assert size <= aligned(size) < size + ALIGNMENT


def test_the_format_is_pinned() -> None:
    """Chunks outlive the program: a change of these bytes needs a new format version."""
    assert f"{checksum(HEADER):016x}" == "eb46544d3f775109"
