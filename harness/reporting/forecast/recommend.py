"""The recommendation for one prefix length after the other. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.errors import UsageError
from harness.core.recurrence import Step
from harness.reporting.forecast.basis import Basis
from harness.reporting.forecast.grid import BASE, Grid, complexity
from harness.reporting.forecast.prediction import option, predict
from harness.results.evidence import Arm

ROUNDING = 1e-9
"""Two sums of the same times in another order differ by less, which is no lead."""

MOST_CALLS = 100_000_000
"""Store calls to walk through, about two minutes."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """An arm and its TTFT by the recurrence, in seconds."""

    arm: Arm
    ttft_s: float


@dataclass(frozen=True, slots=True)
class Advice:
    """One prefix length. ``forecasts`` has every arm, the fastest first, the simpler first if they are equal.

    ``recommended`` is the simplest whose lead is lost by no more than the margin; ``other`` the fastest arm of the
    engine that was not recommended, or None; ``base`` is chunkwise:pool=0; ``floor_s`` the TTFT if loading took no time.
    """

    prefix: int
    chunks: int
    forecasts: tuple[Forecast, ...]
    recommended: Forecast
    base: Forecast
    other: Forecast | None
    floor_s: float
    recompute_s: float | None

    @property
    def soonest(self) -> Forecast:
        """The fastest arm by the recurrence."""
        return self.forecasts[0]

    @property
    def given_up(self) -> float:
        """The share of TTFT by which the recommended arm is slower than the fastest: 0.03 is 3%."""
        return self.recommended.ttft_s / self.soonest.ttft_s - 1 if self.soonest.ttft_s else 0.0

    @property
    def pays(self) -> bool | None:
        """Whether fetching beats recomputing; None if that isn't known."""
        return None if self.recompute_s is None else self.recommended.ttft_s < self.recompute_s


def advise(basis: Basis, grid: Grid, prefixes: Sequence[int], margin: float = 0.05) -> list[Advice]:
    """One advice per prefix length, in the order given. ``margin``: leads up to that share of TTFT do not count.

    Raises UsageError for a length that is not whole chunks or whose compute isn't known, or for too much work.
    """
    steps = [basis.step(prefix) for prefix in prefixes]
    arms = grid.arms(basis.setup.layers)
    work = sum(_calls(arm, step) for arm in arms for step in steps)
    if work > MOST_CALLS:
        raise UsageError(
            f"{len(arms)} arms at these prefix lengths are {work:,} store calls to walk through; "
            f"give shorter --prefix lengths or fewer values, for at most {MOST_CALLS:,}"
        )
    return [_advise(basis, arms, prefix, step, margin) for prefix, step in zip(prefixes, steps, strict=True)]


def _advise(basis: Basis, arms: Sequence[Arm], prefix: int, step: Step, margin: float) -> Advice:
    found = [Forecast(arm, ttft_s) for arm in arms if (ttft_s := predict(arm, basis.setup, step)) is not None]
    chosen = _simplest(found, margin)
    others = [one for one in found if one.arm.engine != chosen.arm.engine]
    soonest = _simplest(found, 0.0)
    return Advice(
        prefix,
        step.chunks,
        (soonest, *sorted((one for one in found if one is not soonest), key=lambda one: (one.ttft_s, complexity(one.arm)))),
        chosen,
        next(one for one in found if one.arm.name == BASE),
        _simplest(others, 0.0) if others else None,
        step.overhead_s + step.compute_s,
        basis.recompute.at(prefix) if basis.recompute is not None and basis.recompute.covers(prefix) else None,
    )


def _simplest(found: Sequence[Forecast], margin: float) -> Forecast:
    """Of those that lose at most ``margin`` against the fastest."""
    limit = min(one.ttft_s for one in found) * (1 + max(margin, ROUNDING))
    return min((one for one in found if one.ttft_s <= limit), key=lambda one: (complexity(one.arm), one.ttft_s))


def pays_from(basis: Basis, advices: Sequence[Advice]) -> int | None:
    """The shortest prefix from which fetching beats recomputing, found to the chunk between two of the lengths.

    The arm is the one that was recommended at the longer of the two. None if recomputing isn't known, or if
    fetching pays at all lengths or at the longest not.
    """
    ordered = sorted((advice for advice in advices if advice.pays is not None), key=lambda advice: advice.prefix)
    late = [place for place, advice in enumerate(ordered) if advice.pays is False]
    if basis.recompute is None or not late or late[-1] + 1 == len(ordered):
        return None
    arm, size = ordered[late[-1] + 1].recommended.arm, basis.setup.chunk_tokens
    low, high = ordered[late[-1]].chunks, ordered[late[-1] + 1].chunks  # at low it doesn't pay, at high it does
    while high - low > 1:
        middle = (low + high) // 2
        ttft_s = predict(arm, basis.setup, basis.step(middle * size))
        pays = ttft_s is not None and ttft_s < basis.recompute.at(middle * size)
        low, high = (low, middle) if pays else (middle, high)
    return high * size


def _calls(arm: Arm, step: Step) -> int:
    batches = -(-step.chunks // option(arm, "batch"))
    return batches if arm.engine == "chunkwise" else batches * -(-step.layers // option(arm, "layers_per_fetch"))
