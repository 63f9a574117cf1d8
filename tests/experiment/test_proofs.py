"""Each way in which a row can fail to be proven has its reason, and a proven row has none."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.experiment.rows import TokenWitness, hit_reason, kv_digest, load_reason, tokens_digest

SAVED = {"a": [10, 11], "b": [20, 21]}
PROOF = [["a", 0, 10], ["b", 1, 21]]


def load(proof: Any = PROOF, failed: int = 0) -> dict[str, Any]:
    return {"failed_blocks": failed, "proof": proof}


def test_a_proven_load_has_no_reason() -> None:
    assert load_reason([load()], 32, True, SAVED, ["a", "b"]) == ""
    assert load_reason([load()], 32, True, SAVED) == ""
    two_ranks = [load([["a", 0, 10]]), load([["b", 1, 21]])]
    assert load_reason(two_ranks, 32, True, SAVED, ["a", "b"]) == ""


@pytest.mark.parametrize(
    ("loads", "keys", "reason"),
    [
        ([], None, "the connector recorded no load"),
        ([load(failed=2), load(failed=1)], None, "3 blocks could not be loaded and were computed"),
        ([load(None)], None, "no KV was sampled, so the load is not proven"),
        ([load([])], None, "no KV was sampled, so the load is not proven"),
        ([load(), load(None)], None, "no KV was sampled, so the load is not proven"),
        ([load([["c", 0, 1]])], None, "chunk c was loaded, but this experiment never saved it"),
        ([load([["a", 1, 10]])], None, "the KV in the paged cache is not what was saved: layer 1 of chunk a"),
        ([load(), load([["b", 0, 21]])], None, "the KV in the paged cache is not what was saved: layer 0 of chunk b"),
        ([load([["a", 0, 10]])], ["a", "b"], "1 chunks were loaded and sampled, not the 2 of the hit"),
        ([load()], ["a"], "2 chunks were loaded and sampled, not the 1 of the hit"),
        ([load([["a", 0, 10], ["a", 1, 11]])], ["b"], "1 chunks were loaded and sampled, not the 1 of the hit"),
    ],
)
def test_each_flaw_has_its_reason(loads: list[dict[str, Any]], keys: list[str] | None, reason: str) -> None:
    assert load_reason(loads, 32, True, SAVED, keys) == reason


def test_there_is_nothing_to_prove_without_a_hit_or_without_kv() -> None:
    assert load_reason([], 0, True, SAVED, []) == ""
    assert load_reason([load([["c", 0, 0]])], 32, False, SAVED, ["a", "b"]) == ""


@settings(deadline=None)
@given(st.integers(0, 2**20), st.integers(0, 2**20) | st.none())
def test_a_hit_is_exactly_what_is_implied(expected: int, hit: int | None) -> None:
    assert (hit_reason(expected, hit) == "") == (hit == expected)
    assert hit_reason(expected, expected) == ""


def test_a_hit_reason_names_both_numbers() -> None:
    assert hit_reason(32, 16) == "hit 16 tokens, but the workload implies 32"


@settings(deadline=None)
@given(st.lists(st.integers(0, 200_000), max_size=8), st.lists(st.integers(0, 200_000), max_size=8))
def test_digests_of_tokens_differ_where_the_tokens_do(one: list[int], other: list[int]) -> None:
    assert (tokens_digest(one) == tokens_digest(other)) == (one == other)
    assert tokens_digest(tuple(one)) == tokens_digest(one)
    assert len(tokens_digest(one)) == 16


def test_digests_of_kv_are_of_all_that_was_sampled() -> None:
    assert kv_digest([]) == kv_digest([load(None)]) == ""
    assert kv_digest([load()]) == kv_digest([load([PROOF[0]]), load([PROOF[1]])])
    assert kv_digest([load()]) != kv_digest([load([PROOF[0]])])
    assert len(kv_digest([load()])) == 16


def test_the_first_answer_is_the_one_to_equal() -> None:
    witness = TokenWitness()
    assert witness.reason("p0", 32, "chunkwise", "aa") == ""
    assert witness.reason("p0", 32, "layerwise", "aa") == ""
    assert witness.reason("p0", 32, "layerwise", "bb") == "other tokens than chunkwise gave for the same prompt"
    assert witness.reason("p0", 32, "chunkwise", "aa") == ""
    assert witness.reason("p1", 32, "layerwise", "bb") == ""
    assert witness.reason("p0", 16, "hybrid:k=1", "bb") == "", "it computed more of the prompt"


def test_answers_from_before_an_interruption_count() -> None:
    earlier = {("p0", 32): ("aa", "layerwise")}
    witness = TokenWitness(earlier)
    assert witness.reason("p0", 32, "chunkwise", "bb") == "other tokens than layerwise gave for the same prompt"
    assert witness.reason("p1", 32, "chunkwise", "bb") == ""
    assert earlier == {("p0", 32): ("aa", "layerwise")}  # the caller's mapping stays as it was
