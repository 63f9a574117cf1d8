from hypothesis import given, settings
from hypothesis import strategies as st

from harness.workloads import WORKLOADS
from harness.workloads.base import token_block


def test_the_folder_is_the_list() -> None:
    assert {"shared_prefix", "multi_turn", "long_doc", "mooncake", "jsonl"} <= set(WORKLOADS.all())


@settings(deadline=None)
@given(seed=st.text(max_size=20), count=st.integers(0, 200), less=st.integers(0, 200), vocabulary=st.integers(1, 2**32 - 1))
def test_a_shorter_block_is_the_head_of_a_longer(seed: str, count: int, less: int, vocabulary: int) -> None:
    block = token_block(seed, count, vocabulary)
    assert len(block) == count
    assert all(block < vocabulary)
    assert (token_block(seed, min(less, count), vocabulary) == block[:less]).all()


def test_tokens_are_the_same_on_every_machine() -> None:
    """SHA-256 of the seed keys Philox 4x64-10; these four follow from that definition, numpy aside."""
    assert token_block("0/block/1", 4, 2**32 - 1).tolist() == [519518392, 2912617811, 2803164731, 2804157470]
