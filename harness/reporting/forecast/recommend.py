"""The recommendation for one prefix length after the other. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.core.errors import UsageError
from harness.core.recurrence import Step, as_text, best_groups, groups_of, predict_layerwise
from harness.reporting.forecast.basis import Basis
from harness.reporting.forecast.grid import AUTO, BASE, Grid, complexity, spec, threads
from harness.reporting.forecast.prediction import groups_in, option, predict, sizes_in
from harness.results.evidence import Arm

ROUNDING = 1e-9
"""Two sums of the same times in another order differ by less, which is no lead."""

TRIED = 16
"""Parts of a hit that are tried for hybrid."""

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
    told = {arm.name: arm for arm in (_in_sizes(arm, basis, step) for arm in arms)}
    found = [Forecast(arm, ttft_s) for arm in told.values() if (ttft_s := predict(arm, basis.setup, step)) is not None]
    found += _parts(basis, found, prefix, step)
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


def _in_sizes(arm: Arm, basis: Basis, step: Step) -> Arm:
    """The arm with the groups that ``auto`` is for this step."""
    if arm.options.get("groups") != AUTO:
        return arm
    options = {**arm.options, "groups": as_text(sizes_in(arm, basis.setup.link, step))}
    always = {name: options[name] for name in ("readers", "depth")}
    name = spec(arm.engine, always, {name: options[name] for name in ("groups", "batch")})
    return Arm(name, arm.engine, options, arm.order)


def _parts(basis: Basis, found: Sequence[Forecast], prefix: int, step: Step) -> list[Forecast]:
    """For each number of readers the part of the hit, in groups, with which TTFT is lowest if the rest is computed beside it.

    Empty where nothing says what computing a token takes.
    """
    recompute_s = basis.recompute.at(prefix) if basis.recompute is not None and basis.recompute.covers(prefix) else None
    if recompute_s is None or step.chunks < 2:
        return []
    chunk_s = max(0.0, recompute_s - step.overhead_s - step.compute_s) / step.chunks
    parts = sorted({max(1, round(step.chunks * share / TRIED)) for share in range(1, TRIED)})
    best = []
    for readers in dict.fromkeys(threads(one.arm) for one in found if one.arm.engine == "layerwise"):
        tried = []
        for part in parts:
            own = replace(step, chunks=part, compute_s=step.compute_s + chunk_s * (step.chunks - part))
            groups = best_groups(basis.setup.link, own, readers, step.layers)
            ttft_s = predict_layerwise(basis.setup.link, own, readers, step.layers, groups)
            options = {"k": part, "readers": readers, "groups": as_text(groups)}
            tried.append(Forecast(Arm(spec("hybrid", options, {}), "hybrid", options, len(found)), ttft_s))
        best.append(min(tried, key=lambda one: one.ttft_s))
    return best


def _simplest(found: Sequence[Forecast], margin: float) -> Forecast:
    """Of those that lose at most ``margin`` against the fastest."""
    limit = min(one.ttft_s for one in found) * (1 + max(margin, ROUNDING))
    return min((one for one in found if one.ttft_s <= limit), key=lambda one: (complexity(one.arm), one.ttft_s))


def pays_from(basis: Basis, advices: Sequence[Advice]) -> int | None:
    """The shortest prefix from which fetching beats recomputing, found to the chunk between two of the lengths.

    The arm is the one that was recommended at the longer of the two, or of hybrid the best that loads all. None if recomputing
    isn't known, or if fetching pays at all lengths or at the longest not.
    """
    ordered = sorted((advice for advice in advices if advice.pays is not None), key=lambda advice: advice.prefix)
    late = [place for place, advice in enumerate(ordered) if advice.pays is False]
    if basis.recompute is None or not late or late[-1] + 1 == len(ordered):
        return None
    longer, size = ordered[late[-1] + 1], basis.setup.chunk_tokens
    arm = next(one.arm for one in (longer.recommended, *longer.forecasts) if one.arm.engine != "hybrid")
    low, high = ordered[late[-1]].chunks, ordered[late[-1] + 1].chunks  # at low it doesn't pay, at high it does
    while high - low > 1:
        middle = (low + high) // 2
        ttft_s = predict(arm, basis.setup, basis.step(middle * size))
        pays = ttft_s is not None and ttft_s < basis.recompute.at(middle * size)
        low, high = (low, middle) if pays else (middle, high)
    return high * size


def _calls(arm: Arm, step: Step) -> int:
    batches = -(-step.chunks // option(arm, "batch"))
    if arm.engine == "chunkwise":
        return batches
    groups = groups_in(arm)
    return batches * (step.layers // 2 if groups == AUTO else len(groups_of(groups, step.layers)))
