from hypothesis import given, settings
from hypothesis import strategies as st

from harness.workloads.ideal import SeenBlocks, SeenChunks


def common_head(one: list[int], two: list[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


PROMPTS = st.lists(st.lists(st.integers(0, 1), max_size=20), max_size=8)


@settings(deadline=None)
@given(prompts=PROMPTS, chunk=st.integers(1, 5))
def test_chunks_hit_is_the_longest_common_head_in_whole_chunks(prompts: list[list[int]], chunk: int) -> None:
    seen = SeenChunks(chunk)
    for i, prompt in enumerate(prompts):
        longest = max((common_head(prompt, earlier) for earlier in prompts[:i]), default=0)
        assert seen.visit(prompt) == longest // chunk * chunk


@settings(deadline=None)
@given(prompts=PROMPTS, block=st.integers(1, 5))
def test_blocks_hit_is_the_longest_common_head_of_their_tokens(prompts: list[list[int]], block: int) -> None:
    """Against tokens spelt out: an id stands for ``block`` equal tokens, the last perhaps cut short."""
    seen = SeenBlocks(block)
    spelt: list[list[int]] = []
    for position, ids in enumerate(prompts):
        cut = position % block if ids else 0
        tokens = [token for name in ids for token in [name * block + i for i in range(block)]]
        tokens = tokens[: len(tokens) - cut]
        longest = max((common_head(tokens, earlier) for earlier in spelt), default=0)
        assert seen.visit(ids, len(tokens)) == longest
        spelt.append(tokens)


def test_a_block_behind_another_prefix_does_not_hit() -> None:
    seen = SeenBlocks(10)
    seen.visit([1, 2, 3], 30)
    assert seen.visit([9, 2, 3], 30) == 0
    assert seen.visit([1, 3], 20) == 10


def test_a_partial_block_grows_with_what_was_sent() -> None:
    seen = SeenBlocks(10)
    assert seen.visit([1, 2], 13) == 0
    assert seen.visit([1, 2], 17) == 13
    assert seen.visit([1, 2, 3], 30) == 17
    assert seen.visit([1, 2, 4], 21) == 20
