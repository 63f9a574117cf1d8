"""The arms that are searched, as ``--arm`` takes them, and which of two is the simpler one."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import product

from harness.core.errors import UsageError
from harness.reporting.forecast.prediction import DEFAULTS, option
from harness.results.evidence import Arm

BASE = "chunkwise:pool=0"
"""What every arm is compared with: one get after the other, then the forward."""

MOST = 1024
"""The engines take no more threads than that (PoolSize, readers)."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Values to combine; each is an option of an engine. Raises UsageError for an empty list or an impossible value."""

    pools: Sequence[int] = (0, 2, 4, 8, 16, 32)
    readers: Sequence[int] = (1, 2, 4, 8, 16, 32)
    depths: Sequence[int] = (2, 4, 8, 16)
    layers_per_fetch: Sequence[int] = (1, 2, 4)
    batches: Sequence[int] = (1, 4)

    def __post_init__(self) -> None:
        for field in fields(self):
            values, least = getattr(self, field.name), 0 if field.name == "pools" else 1
            wrong = [value for value in values if not least <= value <= MOST]
            if wrong or not values:
                what = f"has {wrong[0]}" if wrong else "is empty"
                raise UsageError(f"{field.name.replace('_', '-')} {what}; give whole numbers from {least} to {MOST:,}")

    def arms(self, layers: int) -> list[Arm]:
        """All of them for a model of ``layers`` layers, each once; BASE is always there, and first.

        A depth or a number of layers per fetch above ``layers`` does what ``layers`` does, and is written so.
        """
        found = {BASE: {"pool": 0, "batch": 1}}
        for pool, batch in product(self.pools, self.batches):
            found[_spec("chunkwise", {"pool": pool}, {"batch": batch})] = {"pool": pool, "batch": batch}
        for readers, depth, width, batch in product(self.readers, self.depths, self.layers_per_fetch, self.batches):
            always = {"readers": readers, "depth": min(depth, layers)}
            seldom = {"layers_per_fetch": min(width, layers), "batch": batch}
            found[_spec("layerwise", always, seldom)] = always | seldom
        return [Arm(name, name.partition(":")[0], options, order) for order, (name, options) in enumerate(found.items())]


def threads(arm: Arm) -> int:
    """Threads that an arm needs besides the one that computes."""
    return option(arm, "pool" if arm.engine == "chunkwise" else "readers")


def complexity(arm: Arm) -> tuple[int, int, int]:
    """Less is simpler: fewer threads, then chunkwise before layerwise, then fewer options that are not the engine's defaults."""
    unusual = sum(option(arm, name) != DEFAULTS[name] for name in ("batch", "depth", "layers_per_fetch") if name in arm.options)
    return threads(arm), int(arm.engine == "layerwise"), unusual


def _spec(engine: str, always: dict[str, int], seldom: dict[str, int]) -> str:
    options = always | {name: value for name, value in seldom.items() if value != DEFAULTS[name]}
    return f"{engine}:" + ",".join(f"{name}={value}" for name, value in options.items())
