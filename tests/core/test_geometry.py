"""Shared values: sizes that follow from a geometry, digests that tell data apart, hits in whole chunks."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.chunks import KVGeometry, hit_limit, total_bytes, whole_chunks
from harness.workloads.base import DataSet, Prompt

GEOMETRY = KVGeometry(layers=24, block_tokens=128, block_bytes=262144, chunk_blocks=2, dtype="bfloat16")
PROMPT = Prompt(id="a", tokens=(1, 2, 3), prefix_tokens=2, output_tokens=4, arrival_s=0.5)


def test_sizes_of_a_chunk() -> None:
    assert GEOMETRY.chunk_tokens == 256
    assert GEOMETRY.layer_bytes == 2 * 262144
    assert GEOMETRY.chunk_bytes == 24 * GEOMETRY.layer_bytes


def test_equal_geometries_have_one_digest() -> None:
    assert GEOMETRY.digest() == dataclasses.replace(GEOMETRY).digest()
    assert len(GEOMETRY.digest()) == 16


@pytest.mark.parametrize(
    "change", [{"layers": 25}, {"block_tokens": 64}, {"block_bytes": 1}, {"chunk_blocks": 4}, {"dtype": "float16"}]
)
def test_any_other_geometry_has_another_digest(change: dict[str, Any]) -> None:
    assert dataclasses.replace(GEOMETRY, **change).digest() != GEOMETRY.digest()


def test_a_fingerprint_is_the_same_everywhere() -> None:
    """It stands in results: should it ever change, old results no longer compare with new ones."""
    assert DataSet((PROMPT,)).fingerprint() == "a0f4341146b21528"


@pytest.mark.parametrize(
    "change", [{"id": "b"}, {"tokens": (1, 2, 4)}, {"prefix_tokens": 1}, {"output_tokens": 5}, {"arrival_s": 0.25}]
)
def test_any_other_prompt_has_another_fingerprint(change: dict[str, Any]) -> None:
    assert DataSet((dataclasses.replace(PROMPT, **change),)).fingerprint() != DataSet((PROMPT,)).fingerprint()


def test_a_fingerprint_knows_where_a_prompt_ends() -> None:
    one = DataSet((dataclasses.replace(PROMPT, tokens=(1, 2)), dataclasses.replace(PROMPT, tokens=(3,))))
    other = DataSet((dataclasses.replace(PROMPT, tokens=(1,)), dataclasses.replace(PROMPT, tokens=(2, 3))))
    assert one.fingerprint() != other.fingerprint()


def test_notes_are_not_part_of_the_data() -> None:
    assert DataSet((PROMPT,), ("2 prompts left out",)).fingerprint() == DataSet((PROMPT,)).fingerprint()


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4096))
def test_a_hit_is_whole_chunks_and_leaves_a_token(tokens: int, chunk_tokens: int) -> None:
    hit = hit_limit(tokens, chunk_tokens)
    assert hit % chunk_tokens == 0
    assert 0 <= hit < max(tokens, 1)
    assert hit + chunk_tokens >= tokens  # and one chunk more would be all of the prompt, or past its end
    assert whole_chunks(tokens, chunk_tokens) - hit in (0, chunk_tokens)


def test_a_prompt_of_whole_chunks_gives_up_its_last_one() -> None:
    assert hit_limit(512, 256) == 256
    assert hit_limit(513, 256) == 512


def test_bytes_of_views_are_counted_not_their_elements() -> None:
    assert total_bytes([b"abc", bytearray(5), memoryview(bytes(16)).cast("I")]) == 24
