"""A load that waits for readers beside others, and whose turn it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.core.chunks import LoadRequest
from harness.engines.device import Event
from harness.engines.fetch import Piece


@dataclass(eq=False, slots=True)
class Load:
    """One request's load.

    ``number``: counts loads as they began. ``until``: its deadline. ``calls``: the ranges of chunks that one call fetches, the
    same for each group of layers. ``unread``: layers of chunks that no reader has taken yet. ``remaining``: of each group, the
    calls that are not done; ``events``: after its last copy. ``begun``, ``busy``: calls that a reader has taken, and of these
    the ones under way. ``failed``: chunks that the connector was not told of. ``told``: it knows that the request is released.
    """

    request: LoadRequest
    number: int
    until: float
    calls: Sequence[tuple[int, int]]
    unread: int
    remaining: list[int]
    events: list[Event | None]
    begun: int = 0
    busy: int = 0
    failed: set[int] = field(default_factory=set)
    told: bool = False
    joined: bool = False
    dropped: bool = False

    @property
    def left(self) -> int:
        """Calls that no reader has taken, and that are wanted."""
        return 0 if self.dropped else len(self.calls) * len(self.remaining) - self.begun

    @property
    def over(self) -> bool:
        """Whether nothing of it is under way, nor will be."""
        return not (self.busy or self.left)


@dataclass(eq=False, slots=True)
class Call:
    """What one reader does at a time: fetch these pieces, which are of one group of layers."""

    load: Load
    group: int
    pieces: Sequence[Piece]


ORDERS: Mapping[str, Callable[[Load], float]] = {
    "fifo": lambda load: load.number,
    "shortest": lambda load: load.unread,
    "deadline": lambda load: load.until,
}
"""The load with the lowest value is next."""
