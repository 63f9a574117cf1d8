"""Which of several measured arms to use: the simplest that no other one is shown to beat."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from harness.core.errors import ResultsError, UsageError
from harness.results.evidence import Evidence
from harness.stats import Comparison, compare

METRIC = "p50"
ALPHA = 0.05
"""For all pairs of arms together (Bonferroni), since the arms to compare are chosen after they were measured."""


@dataclass(frozen=True, slots=True)
class Choice:
    """``arm`` is recommended. ``ratios``: TTFT of each other arm over its TTFT. ``unbeaten``: arms that no other one is shown to
    beat, the simplest first; none where each is beaten by another.

    ``fetch_s`` and ``recompute_s``: median TTFT by ``arm`` and without any hit, None if not measured; ``recompute``: the ratio
    of the latter, None without common rounds.
    """

    arm: str
    ratios: tuple[Comparison, ...]
    unbeaten: tuple[str, ...]
    fetch_s: float
    recompute_s: float | None
    recompute: Comparison | None

    @property
    def shown_fastest(self) -> bool:
        """Whether each other arm is shown to be slower."""
        return len(self.slower) == len(self.ratios)

    @property
    def slower(self) -> list[Comparison]:
        """Arms that are shown to be slower."""
        return [one for one in self.ratios if one.low > 1]

    @property
    def faster(self) -> list[Comparison]:
        """Arms that are shown to be faster, which there are only where each arm is beaten by another."""
        return [one for one in self.ratios if one.high < 1]

    @property
    def alike(self) -> list[Comparison]:
        """Arms of which no difference is shown."""
        return [one for one in self.ratios if not one.significant]


def choose(evidence: Evidence, simplest_first: Sequence[str]) -> Choice:
    """From the counted rows of at least one arm. Raises ResultsError if a pair of arms shares no round."""
    arms = list(simplest_first)
    level = ALPHA / max(len(arms) * (len(arms) - 1) // 2, 1)
    found = {pair: compare(evidence.rows, *pair, metrics=(METRIC,), alpha=level)[0] for pair in combinations(arms, 2)}
    beaten = {second if one.low > 1 else first for (first, second), one in found.items() if one.significant}
    unbeaten = tuple(name for name in arms if name not in beaten)
    arm = next(iter(unbeaten), arms[0])
    others = [compare(evidence.rows, arm, name, metrics=(METRIC,), alpha=level)[0] for name in arms if name != arm]
    recompute = next((one.name for one in evidence.arms if one.engine == "recompute"), None)
    return Choice(
        arm,
        tuple(others),
        unbeaten,
        _median(evidence.rows, arm) or 0.0,
        _median(evidence.rows, recompute),
        _against(evidence.rows, arm, recompute),
    )


def _against(rows: pd.DataFrame, arm: str, recompute: str | None) -> Comparison | None:
    try:
        return compare(rows, arm, recompute, metrics=(METRIC,), alpha=ALPHA)[0] if recompute else None
    except (ResultsError, UsageError):  # the budget was over before it had a run
        return None


def _median(rows: pd.DataFrame, arm: str | None) -> float | None:
    times = rows.loc[rows["arm"] == arm, "ttft_s"].dropna()
    return float(times.median()) if len(times) else None


def sentences(choice: Choice) -> list[str]:
    """What is recommended, what that rests on, and what is open."""
    found = [_first(choice)]
    for one in choice.slower:
        found.append(f"{one.candidate} is slower: its TTFT is {_ratio(one)} times that of {choice.arm} ({one.n_pairs} pairs).")
    for one in choice.faster:
        found.append(f"{one.candidate} is faster: its TTFT is {_ratio(one)} times that of {choice.arm} ({one.n_pairs} pairs).")
    for one in choice.alike:
        found.append(f"No difference is shown from {one.candidate}: {_ratio(one)} times ({one.n_pairs} pairs).")
    if choice.ratios:
        found.append(f"The ratios are of the {METRIC} of TTFT, with intervals that hold for all pairs of arms together at 95%.")
    if choice.alike:
        found.append("A larger --budget, or a quieter machine, may show more.")
    if choice.recompute_s is not None:
        found.append(_recompute(choice, choice.recompute_s))
    return found


def _first(choice: Choice) -> str:
    count = len(choice.ratios) + 1
    if not choice.ratios:
        return f"Recommended: {choice.arm}, the only arm that was measured."
    if choice.shown_fastest:
        return f"Recommended: {choice.arm}, which is shown to be the fastest of these {count} arms."
    if not choice.unbeaten:  # a circle, which noise alone can make
        return (
            f"Each of these {count} arms is beaten by another one, so nothing is shown. Recommended: {choice.arm}, the simplest."
        )
    if len(choice.unbeaten) == count:
        return f"No difference shown between these {count} arms. Recommended: {choice.arm}, the simplest."
    if len(choice.unbeaten) == 1:
        return f"Recommended: {choice.arm}, the only one of these {count} arms that none is shown to beat."
    return f"Recommended: {choice.arm}, the simplest of the {len(choice.unbeaten)} arms that none is shown to beat."


def _ratio(one: Comparison) -> str:
    return f"{one.ratio:.3g} ({one.low:.3g} to {one.high:.3g})"


def _recompute(choice: Choice, recompute_s: float) -> str:
    times = f"{choice.fetch_s * 1e3:,.1f} ms by it, {recompute_s * 1e3:,.1f} ms without any hit"
    against = choice.recompute
    if against is None or not against.significant:
        return f"WARNING: the median TTFT is {times}: that it pays to fetch is not shown."
    if against.high < 1:
        return f"WARNING: the median TTFT is {times}: here it does not pay to fetch at all."
    return f"The median TTFT is {times}."
