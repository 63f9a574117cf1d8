"""Looking at the data more than once, by a plan declared before: which error rate each look may use."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from harness.core.errors import UsageError
from harness.stats.quantiles import Floats

Spending = Literal["obrien-fleming", "pocock"]
GRID = 800


@dataclass(frozen=True, slots=True)
class Plan:
    """The numbers of pairs at which results are judged, e.g. (8, 12, 16); a single one is a plan of fixed size.

    ``alpha`` is the one-sided error rate of the whole plan, as the gate's is. ``spending`` says how it is spent: by
    "pocock" about evenly, which stops early more often, by "obrien-fleming" late, which loses least
    against a fixed number. Raises UsageError for looks that don't grow or an alpha out of range.
    """

    looks: tuple[int, ...]
    alpha: float = 0.05
    spending: Spending = "pocock"

    def __post_init__(self) -> None:
        if not self.looks or min(self.looks) < 2 or any(b <= a for a, b in zip(self.looks, self.looks[1:], strict=False)):
            raise UsageError(f"looks {list(self.looks)} must be growing numbers of pairs, each at least 2, such as 8, 12, 16")
        if not 0 < self.alpha < 0.25:
            raise UsageError(f"alpha is {self.alpha:g}; give an error rate above 0 and below 0.25, such as 0.05")
        if self.spending not in ("obrien-fleming", "pocock"):
            raise UsageError(f"unknown spending '{self.spending}'; known: obrien-fleming, pocock")

    def levels(self) -> tuple[float, ...]:
        """The one-sided error rate to use for the bounds at each look. One look gives ``alpha`` itself."""
        times = tuple(look / self.looks[-1] for look in self.looks)
        return _levels(times, self.alpha, self.spending)

    def level_at(self, pairs: int) -> float | None:
        """The level to use with ``pairs`` pairs; None if the plan has no look there."""
        return dict(zip(self.looks, self.levels(), strict=True)).get(pairs)

    def next_look(self, pairs: int) -> int | None:
        """The first look beyond ``pairs``; None after the last one."""
        return next((look for look in self.looks if look > pairs), None)


def spent(spending: Spending, alpha: float, time: float) -> float:
    """The part of ``alpha`` that may be spent by information time ``time`` in (0, 1].

    Lan and DeMets' functions (Biometrika 70, 1983), those that resemble O'Brien-Fleming's and Pocock's bounds.
    """
    if spending == "pocock":
        return float(alpha * np.log1p((np.e - 1) * time))
    return float(2 * norm.sf(norm.isf(alpha / 2) / np.sqrt(time)))


@lru_cache(maxsize=64)
def _levels(times: tuple[float, ...], alpha: float, spending: Spending) -> tuple[float, ...]:
    """Solve each look's bound so that the chance of a first crossing there is what the function allows.

    The score at the looks is a random walk with independent normal steps (Armitage, McPherson and Rowe,
    JRSS A 132, 1969): its density short of all bounds so far is carried on a grid.
    """
    bounds: list[float] = []
    walk = _Walk(np.zeros(1), np.ones(1), 0.0)
    used = 0.0
    for time in times:
        allowed = spent(spending, alpha, time)
        bounds.append(float(brentq(lambda z, left=allowed - used: walk.crossing(z, time) - left, -8.0, 12.0)))  # noqa: B023
        walk, used = walk.below(bounds[-1], time), allowed
    return tuple(float(norm.sf(bound)) for bound in bounds)


@dataclass(frozen=True, slots=True)
class _Walk:
    """Where the score may stand at ``time`` without having crossed a bound: ``mass`` on the points of ``grid``."""

    grid: Floats
    mass: Floats
    time: float

    def crossing(self, bound: float, time: float) -> float:
        """The chance to stand above ``bound`` standard deviations at ``time``."""
        step = np.sqrt(time - self.time)
        return float(self.mass @ norm.sf((bound * np.sqrt(time) - self.grid) / step))

    def below(self, bound: float, time: float) -> "_Walk":
        """The walk at ``time``, short of ``bound``."""
        step = np.sqrt(time - self.time)
        grid = np.linspace(-8 * np.sqrt(time), bound * np.sqrt(time), GRID)
        width = np.full(GRID, grid[1] - grid[0])
        width[[0, -1]] /= 2
        return _Walk(grid, width * (norm.pdf((grid[:, None] - self.grid[None, :]) / step) @ self.mass) / step, time)
