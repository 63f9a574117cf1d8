"""The bytes of Redis' protocol: whatever pieces they come in, they end where they belong."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.stores.redis.protocol import Exchange, ProtocolViolation, Refusal, Reply, Request, command, window_bytes


def test_commands_are_arrays_of_bulk_strings() -> None:
    assert command("GETRANGE", "a key", 0, 15) == b"*4\r\n$8\r\nGETRANGE\r\n$5\r\na key\r\n$1\r\n0\r\n$2\r\n15\r\n"
    assert command(b"\r\n", "ü") == b"*2\r\n$2\r\n\r\n\r\n$2\r\n\xc3\xbc\r\n"


def feed(exchange: Exchange, wire: bytes, pieces: Sequence[int], scatter: bool) -> None:
    """Give an exchange the bytes of a wire as a socket would: as much as fits, at most so many at a time."""
    sizes = list(pieces)
    while wire:
        targets = exchange.targets() if scatter else [exchange.target()]
        most = min(sizes.pop() if sizes else len(wire), len(wire), sum(part.nbytes for part in targets))
        rest = most
        for part in targets:
            size = min(part.nbytes, rest)
            part[:size], wire = wire[:size], wire[size:]
            rest -= size
        exchange.arrived(most)


@st.composite
def dialogues(draw: st.DrawFn) -> tuple[list[Request], list[bytearray], bytes, list[Reply]]:
    """Requests with their memory, the bytes of the replies, and what they say."""
    requests, memory, wire = [], [], b""
    replies: list[Reply] = []
    for _ in range(draw(st.integers(1, 6))):
        parts = [bytearray(size) for size in draw(st.lists(st.integers(0, 40), max_size=5))]
        length = sum(map(len, parts))
        requests.append(Request(b"", tuple(map(memoryview, parts)), length))
        memory.append(bytearray().join(parts))
        kind = draw(st.sampled_from(["bulk", "bulk", "bulk", "error"] if length else ["bulk", "integer", "status", "error"]))
        if kind == "bulk":
            body = draw(st.binary(max_size=length) | st.binary(min_size=length, max_size=length))
            wire += b"$%d\r\n%b\r\n" % (len(body), body)
            replies.append(len(body))
        elif kind == "integer":
            number = draw(st.integers(-(2**63), 2**63 - 1))
            wire += b":%d\r\n" % number
            replies.append(number)
        else:
            text = draw(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
            wire += (b"+" if kind == "status" else b"-") + text.encode() + b"\r\n"
            replies.append(text if kind == "status" else Refusal(text))
    return requests, memory, wire, replies


@settings(deadline=None)
@given(dialogues(), st.lists(st.integers(1, 50)), st.booleans(), st.sampled_from([1, 8, 1000]))
def test_replies_come_whole_whatever_the_pieces(
    dialogue: tuple[list[Request], list[bytearray], bytes, list[Reply]], pieces: list[int], scatter: bool, direct_bytes: int
) -> None:
    requests, _, wire, replies = dialogue
    exchange = Exchange(requests, direct_bytes=direct_bytes)
    exchange.outgoing()
    feed(exchange, wire, pieces, scatter)
    assert exchange.done
    assert exchange.replies == replies
    position = 0
    for request, reply in zip(requests, replies, strict=True):
        if isinstance(reply, int) and wire[position : position + 1] == b"$":
            head = wire.index(b"\r\n", position) + 2
            assert b"".join(request.out)[:reply] == wire[head : head + reply]
            position = head + reply + 2
        else:
            position = wire.index(b"\r\n", position) + 2


@settings(deadline=None)
@given(dialogues(), st.integers(1, 1000), st.booleans())
def test_what_has_not_come_is_none(
    dialogue: tuple[list[Request], list[bytearray], bytes, list[Reply]], cut: int, scatter: bool
) -> None:
    requests, _, wire, replies = dialogue
    exchange = Exchange(requests)
    feed(exchange, wire[:-cut], [], scatter)
    assert not exchange.done
    came = [reply for reply in exchange.replies if reply is not None]
    assert came == replies[: len(came)]
    assert exchange.replies[len(came) :] == [None] * (len(replies) - len(came))


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=200), st.lists(st.integers(1, 50)))
def test_any_bytes_are_a_reply_or_a_violation(wire: bytes, pieces: list[int]) -> None:
    exchange = Exchange([Request(b"", (memoryview(bytearray(10)),), 10)])
    try:
        feed(exchange, wire, pieces, scatter=True)
    except ProtocolViolation as error:
        assert "\n" not in str(error)
    else:
        assert exchange.done == (exchange.replies != [None])


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        (b"$11\r\n", "a value has 11 bytes, at most 10"),
        (b"$-1\r\n", "a value has -1 bytes"),
        (b"$2\r\nabc\r\n", "longer than it said"),
        (b":10\r\n", "a reply of b':10' came in place of a value"),  # it counted as ten bytes that had been read
        (b"+OK\r\n", r"a reply of b'\+OK' came in place of a value"),
        (b"*1\r\n:1\r\n", r"a reply of b'\*1' came in place of a value"),
        (b"x" * 3000, "a line does not end"),
    ],
)
def test_violations_say_what_is_wrong(wire: bytes, why: str) -> None:
    exchange = Exchange([Request(b"", (memoryview(bytearray(10)),), 10)])
    with pytest.raises(ProtocolViolation, match=why):
        feed(exchange, wire, [], scatter=False)


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        (b":1\r\n:2\r\n", "more came than was asked for"),
        (b":one\r\n", "b'one' is no number"),
        (b"*1\r\n:1\r\n", r"begins with b'\*'"),
    ],
)
def test_violations_where_a_number_was_asked_for(wire: bytes, why: str) -> None:
    exchange = Exchange([Request(b"")])
    with pytest.raises(ProtocolViolation, match=why):
        feed(exchange, wire, [], scatter=False)


def test_no_more_is_asked_for_than_the_window_and_one_value() -> None:
    size = 1001
    memory = memoryview(bytearray(size))
    exchange = Exchange([Request(b"%d" % number, (memory,), size) for number in range(7)])
    exchange.window = 4000
    assert exchange.outgoing() == b"0123"
    assert exchange.outgoing() == b""
    feed(exchange, b"$%d\r\n" % size + b"x" * (size - 1), [], scatter=True)
    assert exchange.outgoing() == b"4"  # the first has all but come
    feed(exchange, b"x\r\n" + b"$0\r\n\r\n" * 2, [], scatter=True)  # the next two are not there
    assert exchange.outgoing() == b"56"
    feed(exchange, (b"$%d\r\n" % size + b"x" * size + b"\r\n") * 4, [], scatter=True)
    assert exchange.done
    assert exchange.outgoing() == b""


@pytest.mark.parametrize(("round_trip_s", "window"), [(0, 512 << 10), (2e-3, 4_000_000), (1, 16 << 20)])
def test_the_window_keeps_a_link_busy_over_its_round_trip(round_trip_s: float, window: int) -> None:
    assert window_bytes(round_trip_s) == window


def test_large_parts_are_received_where_they_belong_and_small_ones_together() -> None:
    large, small = bytearray(5000), [bytearray(100) for _ in range(3)]
    exchange = Exchange([Request(b"", tuple(map(memoryview, [large, *small])), 5300)], direct_bytes=1000)
    feed(exchange, b"$5300\r\n", [], scatter=False)
    assert exchange.target().obj is large
    assert len(exchange.targets()) == 5  # and the scratch memory
    exchange.target()
    feed(exchange, b"a" * 5000, [], scatter=False)
    assert exchange.target().nbytes > 300
    feed(exchange, b"bb" * 150 + b"\r\n", [], scatter=False)
    assert exchange.done
    assert small == [b"b" * 100] * 3
