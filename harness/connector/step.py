"""What the scheduler's side tells the worker's side for one step. Plain values: they are pickled."""

from dataclasses import dataclass, field

from harness.core.chunks import ChunkKey, LoadRequest


@dataclass(frozen=True, slots=True)
class Load:
    """Fetch these chunks for this request by this arm: for the forward of the step, or between steps."""

    arm: str
    request: LoadRequest
    label: str


@dataclass(frozen=True, slots=True)
class Save:
    """Write this chunk after the forward, from these blocks, unless a load failed in this step.

    ``replace``: also where the store has the chunk already, since what it has is bad.
    """

    request: str
    key: ChunkKey
    blocks: tuple[int, ...]
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """The lookup of a traced request: when, how many tokens it granted, how many the store could have given, and the choice."""

    label: str
    start_s: float
    end_s: float
    hit_tokens: int
    stored_tokens: int
    how: str = ""
    why: str = ""
    outside: bool = False
    """Whether it lay before the step that computes, where vLLM counts it as queue: the load ran between steps."""


@dataclass(slots=True)
class Step:
    """One forward step."""

    loads: list[Load] = field(default_factory=list)
    begins: list[Load] = field(default_factory=list)
    """Loads between steps: they begin now, and their requests compute in a later step."""
    joins: list[str] = field(default_factory=list)
    """Ids of requests that were loaded between steps, or still are, and compute in this step."""
    drops: list[str] = field(default_factory=list)
    """Ids of requests whose load between steps nobody wants any more."""
    saves: list[Save] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    prove: list[str] = field(default_factory=list)
    """Ids of requests loaded in an earlier step that still hold their blocks: digest them now."""
    tokens: int = 0
    """That the forward computes, of all requests."""
    fresh: list[int] = field(default_factory=list)
    """Blocks that requests have from this step on: its forward writes them, or its loads do."""
    freed: dict[str, int] = field(default_factory=dict)
    """By id of those to prove: how many of the first blocks loaded vLLM has freed, as they are behind the window."""
    forget: list[str] = field(default_factory=list)
    """Ids of requests that are gone before they were digested."""

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.loads or self.joins or self.saves or self.notes or self.prove or self.forget)
