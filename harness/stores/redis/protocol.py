"""The part of Redis' protocol that moves bytes, without the network: commands out, bulk strings into given memory.

Redis' own client for Python copies a value three to five times before the caller has it, which costs more
than half of the rate (benchmarks/redis_rate.py). Here the memory that a reply belongs into is known before
it is received. RESP2: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

LEAST_WINDOW, MOST_WINDOW = 512 << 10, 16 << 20
_FASTEST = 2e9  # bytes a second, more than one connection gets
_MOST_PARTS = 64  # buffers in one recvmsg; Linux takes 1,024, but a call seldom fills more than these
_LONGEST_LINE = 2048
_END = b"\r\n"
_NUMBER = re.compile(rb"[+-]?\d{1,20}")


def window_bytes(round_trip_s: float) -> int:
    """Bytes to ask for ahead of what has arrived, so that the link stays busy over its round trip, and not more.

    A server makes the replies to all commands it has read before it sends the first, so a batch without a bound
    would fill its memory, and slow it down: on loopback, half the rate for 12 values of 2 MiB.
    """
    return min(max(int(round_trip_s * _FASTEST), LEAST_WINDOW), MOST_WINDOW)


class ProtocolViolation(Exception):
    """What came is no reply to what was asked."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error that the server sent instead of a value; ``text`` begins with its code, for instance WRONGTYPE."""

    text: str


Reply = int | str | Refusal
"""An integer as it is, a simple string as text, a bulk string as its length: its bytes are in the request's ``out``."""


@dataclass(frozen=True, slots=True)
class Request:
    """One command, and where the bytes of a bulk string in reply to it go."""

    command: bytes
    out: tuple[memoryview, ...] = ()
    length: int = 0
    """Bytes of ``out`` together."""


def command(*words: bytes | str | int) -> bytes:
    """A command as the server reads it."""
    texts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(texts) + b"".join(b"$%d\r\n%b\r\n" % (len(text), text) for text in texts)


class Exchange:
    """A pipeline under way: says what to send and where to receive, and takes note of what has arrived.

    Ask for ``outgoing``, send it; ask for ``target`` (or ``targets``), receive into it and report the number
    of bytes to ``arrived``; until ``done``. ``replies`` holds None for what is still to come; ``window`` bounds the
    bytes asked for ahead, and may be set until then. Not thread-safe.
    """

    def __init__(self, requests: Sequence[Request], scratch_bytes: int = 4096, direct_bytes: int = 1) -> None:
        """``target`` gives parts of ``out`` smaller than ``direct_bytes`` no call of their own: they are received
        into ``scratch_bytes`` of memory and copied."""
        self.replies: list[Reply | None] = [None] * len(requests)
        self.window = LEAST_WINDOW
        self._requests = requests
        self._direct_bytes = direct_bytes
        self._scratch = bytearray(max(scratch_bytes, 2 * _LONGEST_LINE))
        self._free = memoryview(self._scratch)
        self._filled = 0
        self._next = 0
        self._sent = 0
        self._promised = 0
        self._parts: deque[memoryview] = deque()
        self._in_body = False
        self._length = 0
        self._missing = 0
        self._direct = False

    @property
    def done(self) -> bool:
        """Whether every reply is there."""
        return self._next == len(self._requests)

    def outgoing(self) -> bytes:
        """Commands that may go out now; often none."""
        if self._sent == len(self._requests) or self._promised >= self.window:
            return b""
        first = self._sent
        while self._sent < len(self._requests) and self._promised < self.window:
            self._promised += self._requests[self._sent].length
            self._sent += 1
        return b"".join(request.command for request in self._requests[first : self._sent])

    def targets(self) -> list[memoryview]:
        """Where the next bytes go, in order: for a call that scatters."""
        self._direct = bool(self._parts)
        parts = list(islice(self._parts, _MOST_PARTS))
        return parts if len(parts) < len(self._parts) else [*parts, self._free[self._filled :]]

    def target(self) -> memoryview:
        """Where the next bytes go: for a call that takes one buffer."""
        self._direct = bool(self._parts) and self._parts[0].nbytes >= self._direct_bytes
        return self._parts[0] if self._direct else self._free[self._filled :]

    def arrived(self, count: int) -> None:
        """``count`` bytes have been received into what was given last. Raises ProtocolViolation."""
        if self._direct:
            count = self._advance(count)
        self._filled += count
        if not self._missing or self._filled:
            self._digest()

    def _advance(self, count: int) -> int:
        """``count`` bytes have come into the parts of the body, at most; returns how many lie behind them."""
        while count and self._parts:
            part = self._parts[0]
            size = min(count, part.nbytes)
            count -= size
            self._missing -= size
            self._promised -= size
            if size == part.nbytes:
                self._parts.popleft()
            else:
                self._parts[0] = part[size:]
        return count

    def _digest(self) -> None:
        """Take lines and bodies from the scratch memory, as far as they are complete."""
        position = 0
        while not self.done:
            if self._in_body:
                position = self._copy_body(position)
                if self._missing or self._filled - position < len(_END):
                    break
                if self._scratch[position : position + len(_END)] != _END:
                    raise ProtocolViolation("a value is longer than it said")
                position += len(_END)
                self._in_body = False
                self._finish(self._length)
            else:
                end = self._scratch.find(_END, position, self._filled)
                if end < 0:
                    break
                self._line(bytes(self._free[position:end]))
                position = end + len(_END)
        if self.done and position != self._filled:
            raise ProtocolViolation("more came than was asked for")
        self._keep_from(position)

    def _keep_from(self, position: int) -> None:
        rest = self._filled - position
        if position and rest:
            self._free[:rest] = bytes(self._free[position : self._filled])
        self._filled = rest
        if rest > _LONGEST_LINE:
            raise ProtocolViolation("a line does not end")

    def _copy_body(self, position: int) -> int:
        while self._parts and position < self._filled:
            size = min(self._parts[0].nbytes, self._filled - position)
            self._parts[0][:size] = self._free[position : position + size]
            self._advance(size)
            position += size
        return position

    def _line(self, line: bytes) -> None:
        kind, rest = line[:1], line[1:]
        request = self._requests[self._next]
        if kind == b"$":
            self._begin_body(request, _number(rest))
            return
        if request.length and kind != b"-":  # a number would pass for the length of a value that never came
            raise ProtocolViolation(f"a reply of {kind + rest[:20]!r} came in place of a value")
        self._promised -= request.length
        text = rest.decode(errors="replace")
        if kind == b":":
            self._finish(_number(rest))
        elif kind == b"+":
            self._finish(text)
        elif kind == b"-":
            self._finish(Refusal(text))
        else:
            raise ProtocolViolation(f"a reply begins with {kind!r}")

    def _begin_body(self, request: Request, length: int) -> None:
        if not 0 <= length <= request.length:
            raise ProtocolViolation(f"a value has {length} bytes, at most {request.length} were asked for")
        self._promised -= request.length - length
        self._length = self._missing = length
        self._in_body = True
        for part in request.out:
            if length and part.nbytes:
                self._parts.append(part[:length])
                length -= min(length, part.nbytes)

    def _finish(self, reply: Reply) -> None:
        self.replies[self._next] = reply
        self._next += 1


def _number(text: bytes) -> int:
    if not _NUMBER.fullmatch(text):
        raise ProtocolViolation(f"{text[:20]!r} is no number")
    return int(text)
