"""Which requests a batch makes, and how what arrives is spread over its buffers."""

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.stores.base import Read
from harness.stores.bounded import Gate
from harness.stores.s3.ranges import coalesce, scatter


def read(key: str, offset: int, *sizes: int) -> Read:
    return Read(key, offset, tuple(memoryview(bytearray(size)) for size in sizes))


def test_only_ranges_of_one_object_that_touch_become_one() -> None:
    reads = [read("b", 10, 5), read("a", 5, 5), read("a", 0, 2, 3), read("a", 11, 1), read("b", 12, 5)]
    assert [(request.key, request.start, request.length, request.positions) for request in coalesce(reads)] == [
        ("a", 0, 10, (2, 1)),
        ("a", 11, 1, (3,)),
        ("b", 10, 5, (0,)),
        ("b", 12, 5, (4,)),
    ]


def test_ends_say_when_each_read_is_complete() -> None:
    (request,) = coalesce([read("a", 2, 3), read("a", 0, 2), read("a", 5, 4)])
    assert [(position, end) for position, _, end in request.ends()] == [(1, 2), (0, 5), (2, 9)]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(0, 9)), max_size=12))
def test_no_read_is_lost_and_no_byte_asked_for_in_vain(wanted: list[tuple[str, int, int]]) -> None:
    reads = [read(key, offset, size) for key, offset, size in wanted]
    requests = coalesce(reads)
    assert sorted(place for request in requests for place in request.positions) == list(range(len(reads)))
    assert sum(request.length for request in requests) == sum(item.length for item in reads)
    for request in requests:
        place = request.start
        for item in request.reads:
            assert (item.key, item.offset) == (request.key, place)
            place += item.length


@settings(deadline=None)
@given(st.lists(st.binary(max_size=9), max_size=9), st.lists(st.integers(0, 9), max_size=9))
def test_pieces_of_any_size_fill_buffers_of_any_size(pieces: list[bytes], sizes: list[int]) -> None:
    out = [bytearray(size) for size in sizes]
    data = b"".join(pieces)
    done = scatter(pieces, map(memoryview, out), Gate())
    assert done == min(len(data), sum(sizes))
    assert b"".join(out) == data[:done].ljust(sum(sizes), b"\0")
