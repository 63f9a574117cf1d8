"""The shared link, against hand-made cases and the laws that any fair link obeys."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.stores.link import Link

BOUNDS = st.one_of(st.just(math.inf), st.floats(1.0, 1e4))


def ends(link: Link, *transfers: tuple[float, int]) -> list[float]:
    """When transfers (start, size) end that are announced at their start, in order."""
    sent = [link.send(start, start, size) for start, size in transfers]
    last = transfers[-1][0]
    return [link.end(transfer, last) for transfer in sent]


def test_one_transfer_takes_its_bytes_over_the_rate() -> None:
    assert ends(Link(stream=100, total=math.inf), (5.0, 250)) == [7.5]
    assert ends(Link(stream=100, total=40), (0.0, 100)) == [2.5]
    assert ends(Link(stream=math.inf, total=math.inf), (1.0, 10**9)) == [1.0]


def test_streams_without_a_common_bound_do_not_touch() -> None:
    assert ends(Link(stream=100, total=math.inf), *[(0.0, 100)] * 50) == [1.0] * 50


def test_equal_transfers_share_the_total() -> None:
    assert ends(Link(stream=100, total=100), *[(0.0, 100)] * 4) == pytest.approx([4.0] * 4)


def test_stream_bound_holds_until_the_total_is_used_up() -> None:
    assert ends(Link(stream=50, total=100), (0.0, 100), (0.0, 100)) == pytest.approx([2.0, 2.0])
    assert ends(Link(stream=50, total=100), *[(0.0, 100)] * 4) == pytest.approx([4.0] * 4)


def test_who_ends_leaves_its_share_to_the_rest() -> None:
    # 50 each until the short one ends at 2 s; then the long one has 100 for its last 200 bytes.
    assert ends(Link(stream=math.inf, total=100), (0.0, 100), (0.0, 300)) == pytest.approx([2.0, 4.0])


def test_who_comes_later_takes_a_share_from_then_on() -> None:
    link = Link(stream=math.inf, total=100)
    early = link.send(0.0, 0.0, 200)
    assert link.end(early, 0.0) == pytest.approx(2.0)
    late = link.send(1.0, 1.0, 50)
    assert link.end(early, 1.0) == pytest.approx(2.5)
    assert link.end(late, 1.0) == pytest.approx(2.0)
    assert link.end(early, 3.0) == pytest.approx(2.5)


def test_announced_transfers_take_nothing_before_they_start() -> None:
    link = Link(stream=math.inf, total=100)
    later = link.send(0.0, 3.0, 100)
    first = link.send(0.0, 0.0, 100)
    assert [link.end(first, 0.0), link.end(later, 0.0)] == pytest.approx([1.0, 4.0])


@settings(deadline=None)
@given(
    stream=BOUNDS,
    total=BOUNDS,
    calls=st.lists(st.tuples(st.floats(0, 10), st.floats(0, 5), st.integers(0, 10_000)), min_size=1, max_size=12),
)
def test_laws_of_a_fair_link(stream: float, total: float, calls: list[tuple[float, float, int]]) -> None:
    link = Link(stream, total)
    sent = [link.send(now, now + latency, size) for now, latency, size in sorted(calls)]
    predicted = [link.end(transfer, 10.0) for transfer in sent]
    final = [link.end(transfer, max(predicted) + 1.0) for transfer in sent]
    tolerance = 1e-6 * max(final) + 1e-6
    # With no newcomer a prediction is kept.
    assert predicted == pytest.approx(final, abs=tolerance)
    for transfer, end_s in zip(sent, final, strict=True):
        # Nobody is faster than alone, ...
        assert end_s >= transfer.start_s + transfer.size / min(stream, total) - tolerance
        # ... or slower than with everybody's bytes, at their bound, one after the other.
        everyone = sum(other.size for other in sent)
        assert end_s <= max(other.start_s for other in sent) + everyone / min(stream, total) + tolerance
    # The link is never ahead of its total.
    span = max(final) - min(transfer.start_s for transfer in sent)
    assert sum(transfer.size for transfer in sent) / total <= span + tolerance
