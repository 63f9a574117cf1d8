"""Which of several measured arms to use: the simplest that no other one is shown to beat."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from harness.results.evidence import Evidence
from harness.stats import Comparison, compare

METRIC = "p50"
ALPHA = 0.05
"""For all pairs of arms together (Bonferroni), since the arms to compare are chosen after they were measured."""


@dataclass(frozen=True, slots=True)
class Choice:
    """``arm`` is recommended. ``ratios``: TTFT of each other arm over its TTFT, by Comparison; ``alike``: those of which no
    difference is shown. ``fetch_s`` and ``recompute_s``: median TTFT by it and without any hit; None if not measured."""

    arm: str
    ratios: tuple[Comparison, ...]
    fetch_s: float
    recompute_s: float | None

    @property
    def slower(self) -> list[Comparison]:
        """Arms that are shown to be slower."""
        return [one for one in self.ratios if one.low > 1]

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
    # Where each is beaten by another one, a circle that noise alone can make, nothing is shown.
    arm = next((name for name in arms if name not in beaten), arms[0])
    others = [compare(evidence.rows, arm, name, metrics=(METRIC,), alpha=level)[0] for name in arms if name != arm]
    recompute = next((one.name for one in evidence.arms if one.engine == "recompute"), None)
    return Choice(arm, tuple(others), _median(evidence.rows, arm) or 0.0, _median(evidence.rows, recompute))


def _median(rows: pd.DataFrame, arm: str | None) -> float | None:
    times = rows.loc[rows["arm"] == arm, "ttft_s"].dropna()
    return float(times.median()) if len(times) else None


def sentences(choice: Choice) -> list[str]:
    """What is recommended, what that rests on, and what is open."""
    found = [_first(choice)]
    for one in choice.slower:
        found.append(f"{one.candidate} is slower: its TTFT is {_ratio(one)} times that of {choice.arm} ({one.n_pairs} pairs).")
    for one in choice.alike:
        found.append(f"No difference is shown from {one.candidate}: {_ratio(one)} times ({one.n_pairs} pairs).")
    if choice.ratios:
        found.append(f"The ratios are of the {METRIC} of TTFT, with intervals that hold for all pairs of arms together at 95%.")
    if choice.alike:
        found.append("A larger --budget, or a quieter machine, may show more.")
    if choice.recompute_s is not None:
        found.append(_recompute(choice.fetch_s, choice.recompute_s))
    return found


def _first(choice: Choice) -> str:
    if not choice.ratios:
        return f"Recommended: {choice.arm}, the only arm that was measured."
    if not choice.alike:
        return f"Recommended: {choice.arm}, which is shown to be the fastest of these {len(choice.ratios) + 1} arms."
    if not choice.slower:
        return f"No difference shown between these {len(choice.ratios) + 1} arms. Recommended: {choice.arm}, the simplest."
    return f"Recommended: {choice.arm}, the simplest of the {len(choice.alike) + 1} arms that none is shown to beat."


def _ratio(one: Comparison) -> str:
    return f"{one.ratio:.3g} ({one.low:.3g} to {one.high:.3g})"


def _recompute(fetch_s: float, recompute_s: float) -> str:
    times = f"{fetch_s * 1e3:,.1f} ms by it, {recompute_s * 1e3:,.1f} ms without any hit"
    if recompute_s <= fetch_s:
        return f"WARNING: the median TTFT is {times}: here it does not pay to fetch at all."
    return f"The median TTFT is {times}."
