"""The arms that are searched, as ``--arm`` takes them, and which of two is the simpler one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product

from harness.core.errors import UsageError
from harness.core.recurrence import as_text, groups_of, sizes_of
from harness.reporting.forecast.prediction import DEFAULTS, groups_in, option
from harness.results.evidence import Arm

BASE = "chunkwise:pool=0"
"""What every arm is compared with: one get after the other, then the forward."""

AUTO = "auto"
"""Groups that the recurrence chooses for a prefix length."""

ENGINES = ("chunkwise", "layerwise", "hybrid")
"""The simpler ones first."""

MOST = 1024
"""The engines take no more threads than that (PoolSize, readers)."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Values to combine; each is an option of an engine. Raises UsageError for an empty list or an impossible value."""

    pools: Sequence[int] = (0, 2, 4, 8, 16, 32)
    readers: Sequence[int] = (1, 2, 4, 8, 16, 32)
    depths: Sequence[int] = (2, 4, 8, 1024)
    groups: Sequence[str] = ("1", "4", "auto")
    batches: Sequence[int] = (1, 4)

    def __post_init__(self) -> None:
        for groups in self.groups:
            if groups != AUTO:
                sizes_of(groups)
        if not self.groups:
            raise UsageError("groups is empty; give numbers of layers, sizes such as 1+5+6, or auto")
        for field in fields(self):
            values, least = getattr(self, field.name), 0 if field.name == "pools" else 1
            wrong = [value for value in values if field.name != "groups" and not least <= value <= MOST]
            if wrong or not values:
                what = f"has {wrong[0]}" if wrong else "is empty"
                raise UsageError(f"{field.name} {what}; give whole numbers from {least} to {MOST:,}")

    def arms(self, layers: int) -> list[Arm]:
        """All of them for a model of ``layers`` layers, each once; BASE is always there, and first.

        A depth or a group above ``layers`` does what ``layers`` does, and is written so. Raises UsageError for sizes that don't
        add up to the layers.
        """
        found: dict[str, dict[str, object]] = {BASE: {"pool": 0, "batch": 1}}
        for pool, batch in product(self.pools, self.batches):
            found[spec("chunkwise", {"pool": pool}, {"batch": batch})] = {"pool": pool, "batch": batch}
        for readers, depth, groups, batch in product(self.readers, self.depths, self.groups, self.batches):
            always = {"readers": readers, "depth": min(depth, layers)}
            seldom = {"groups": groups if groups == AUTO else as_text(groups_of(groups, layers)), "batch": batch}
            found[spec("layerwise", always, seldom)] = always | seldom
        return [Arm(name, name.partition(":")[0], options, order) for order, (name, options) in enumerate(found.items())]


def threads(arm: Arm) -> int:
    """Threads that an arm needs besides the one that computes."""
    return option(arm, "pool" if arm.engine == "chunkwise" else "readers")


def complexity(arm: Arm) -> tuple[int, int, int]:
    """Less is simpler: fewer threads, then chunkwise before layerwise before hybrid, then fewer options that are no default."""
    unusual = sum(option(arm, name) != DEFAULTS[name] for name in ("batch", "depth") if name in arm.options)
    return threads(arm), ENGINES.index(arm.engine), unusual + (groups_in(arm) != "1")


def spec(engine: str, always: Mapping[str, object], seldom: Mapping[str, object]) -> str:
    """An arm's text: what is written always, and what is no default."""
    usual = {**DEFAULTS, "groups": "1"}
    options = {**always, **{name: value for name, value in seldom.items() if value != usual[name]}}
    return f"{engine}:" + ",".join(f"{name}={value}" for name, value in options.items())
