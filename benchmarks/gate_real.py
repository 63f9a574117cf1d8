"""Real gates, one after the other, over one long stored run: how often each verdict came, and after how many pairs.

    ttft compare --arm layerwise:depth=4 --arm layerwise:depth=4@again --arm delayed:depth=4,delay_ms=15 --no-bounds --pairs 240
    python benchmarks/gate_real.py RUN --base layerwise:depth=4 --candidate layerwise:depth=4@again --max p50:5%

Each gate takes the pairs that its plan needs, as ``ttft gate --run`` would have; the next one begins behind it. The
arm ``delayed`` is examples/own_engine (``pip install --no-deps ./examples/own_engine``). ``--start-s`` is what a gate
spends before its first pair: starting vLLM, priming, the correctness pass.
"""

import argparse
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from harness.core.errors import TtftError
from harness.gate import Outcome, default_looks, judge_by_plan, parse_margins
from harness.gate.calibration import rate
from harness.results import Measurement, load
from harness.stats import Plan


@dataclass(frozen=True)
class Gate:
    """One gate's end."""

    outcome: Outcome
    pairs: int
    ratio: float


def gates(run: Measurement, base: str, candidate: str, margins: dict[str, float], plan: Plan) -> list[Gate]:
    """Gates over disjoint stretches of the run's rounds, in time order; rounds that are not enough for one are left."""
    rows = run.requests[run.requests["arm"].isin([base, candidate])]
    pairs = sorted(rows["round"].unique())
    found: list[Gate] = []
    start = 0
    while len(pairs) - start >= plan.looks[-1]:
        stretch = replace(run, requests=rows[rows["round"].isin(pairs[start : start + plan.looks[-1]])])
        verdict = judge_by_plan(stretch, candidate, base, margins, plan)
        if verdict.outcome is Outcome.REFUSED:
            raise SystemExit(f"{run.path}: {verdict.sentence}")
        found.append(Gate(verdict.outcome, verdict.n_pairs, verdict.metrics[0].ratio))
        start += verdict.n_pairs
    return found


def seconds_a_pair(rows: pd.DataFrame, arms: list[str]) -> float:
    """Median duration of one run of each arm, together."""
    ends = rows["sent_s"] + rows["e2e_s"]
    spans = ends.groupby([rows["arm"], rows["run"]]).max().groupby(level=0).median()
    return float(spans[arms].sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--base", required=True)
    parser.add_argument("--candidate", required=True)
    parser.add_argument("--max", action="append", required=True)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--start-s", type=float, default=40.0)
    parser.add_argument("--rounds", type=int, help="only the first so many rounds of the run")
    given = parser.parse_args()
    try:
        run = load(given.run)
        if given.rounds:
            run = replace(run, requests=run.requests[run.requests["round"] < given.rounds])
        plan = Plan(default_looks(given.pairs), given.alpha)
        found = gates(run, given.base, given.candidate, parse_margins(given.max), plan)
    except TtftError as error:
        raise SystemExit(str(error)) from None
    if not found:
        raise SystemExit(f"{given.run} has fewer than {plan.looks[-1]} pairs of these arms; measure more, or lower --pairs")
    counts = Counter(str(gate.outcome) for gate in found)
    each_s = seconds_a_pair(run.requests, [given.base, given.candidate])
    minutes = [(given.start_s + gate.pairs * each_s) / 60 for gate in found]
    print(f"{given.candidate} against {given.base}, {', '.join(given.max)}, looks {', '.join(map(str, plan.looks))}")
    for name in ("PASS", "FAIL", "INCONCLUSIVE"):
        share = rate(counts[name], len(found))
        print(f"  {name:12} {share.events:3} of {share.trials} (95% interval {100 * share.low:.0f} to {100 * share.high:.0f}%)")
    used = [gate.pairs for gate in found]
    print(f"  pairs a gate {np.median(used):.0f} (median), {max(used)} at most; {each_s:.1f} s a pair")
    print(f"  minutes      {np.median(minutes):.1f} (median), {max(minutes):.1f} at most, with {given.start_s:.0f} s to start")
    print(f"  ratio        {np.median([gate.ratio for gate in found]):.3f} (median of the gates)")


if __name__ == "__main__":
    main()
