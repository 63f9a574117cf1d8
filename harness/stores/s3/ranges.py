"""Ranges of objects: which requests a batch of reads makes, and how pieces that arrive get into its buffers. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.stores.base import Buffer, Read
from harness.stores.bounded import Gate


@dataclass(frozen=True, slots=True)
class Ranged:
    """One request: neighbouring ranges of one object, which ``positions`` of the batch asked for, in this order."""

    key: str
    start: int
    reads: tuple[Read, ...]
    positions: tuple[int, ...]

    @property
    def length(self) -> int:
        """Bytes to ask for."""
        return sum(item.length for item in self.reads)

    def ends(self) -> list[tuple[int, Read, int]]:
        """Position, read, and how many bytes of the request have arrived when that read is complete."""
        arrived = 0
        ends = []
        for position, item in zip(self.positions, self.reads, strict=True):
            arrived += item.length
            ends.append((position, item, arrived))
        return ends


def coalesce(reads: Sequence[Read]) -> list[Ranged]:
    """The requests of a batch. Ranges of an object that touch become one; nothing is asked for that no read wants."""
    requests: list[Ranged] = []
    for position in sorted(range(len(reads)), key=lambda number: (reads[number].key, reads[number].offset)):
        item = reads[position]
        last = requests[-1] if requests else None
        if last is not None and last.key == item.key and last.start + last.length == item.offset:
            requests[-1] = Ranged(last.key, last.start, (*last.reads, item), (*last.positions, position))
        else:
            requests.append(Ranged(item.key, item.offset, (item,), (position,)))
    return requests


def scatter(pieces: Iterable[Buffer], out: Iterable[memoryview], gate: Gate) -> int:
    """Copy ``pieces``, one after the other, into the buffers of ``out``, through ``gate``; returns the bytes copied, never
    more than fit. Raises Shut."""
    targets = iter(out)
    target = memoryview(b"")
    done = 0
    for piece in pieces:
        view = memoryview(piece)
        while view.nbytes:
            while not target.nbytes:
                following = next(targets, None)
                if following is None:
                    return done
                target = following
            size = min(view.nbytes, target.nbytes)
            with gate:
                target[:size] = view[:size]
            target, view = target[size:], view[size:]
            done += size
    return done
