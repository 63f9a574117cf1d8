"""Result files of other tools to a verdict: two sets of runs, without pairs and without proof."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from harness.core.errors import UsageError
from harness.core.findings import Finding, Kind, found
from harness.core.text import shortened
from harness.gate.judge import check_bounds, check_rate, judge, refused
from harness.gate.limits import levels
from harness.gate.verdict import Verdict
from harness.results.foreign import ForeignRun
from harness.stats import compare_unpaired

SAME_LENGTH = 0.05
"""By so much the mean prompt lengths of two sides may differ: random lengths do a little."""


def judge_files(
    base: tuple[str, Sequence[ForeignRun]],
    candidate: tuple[str, Sequence[ForeignRun]],
    margins: Mapping[str, float],
    alpha: float = 0.05,
    limits: Mapping[str, float] | None = None,
) -> Verdict:
    """Judge the runs of other tools, each side under its name. A file is a run, so one a side is INCONCLUSIVE.

    REFUSED where requests failed or the sides did other work. Raises UsageError for margins that cannot be meant, a side
    without requests, or a run that is there twice.
    """
    limits = limits or {}
    check_bounds(margins, limits)
    check_rate(alpha)
    sides = (base, candidate)
    for name, runs in sides:
        if not all(run.ttft_s for run in runs) or not runs:
            raise UsageError(f"{name} has a run without a request that succeeded, so there is nothing to judge; measure again")
    _check_copies(sides)
    said = _warnings(sides)
    if reasons := [*_failed(sides), *_other_work(sides)]:
        return refused(base[0], candidate[0], reasons, alpha, said)
    ours, theirs = (_frame(name, runs) for name, runs in sides)
    compared = compare_unpaired(ours, base[0], theirs, candidate[0], list(margins or limits), 2 * alpha)
    timed = [(level, limits[level.metric]) for level in levels(theirs, candidate[0], list(limits))]
    return judge(compared, margins, alpha, (), said, limits=timed)


def _check_copies(sides: Sequence[tuple[str, Sequence[ForeignRun]]]) -> None:
    """Raise UsageError for a run that is there twice: a copy differs from nothing, so the interval would be too narrow.

    One run a side may be judged against itself, which decides nothing.
    """
    runs = [run for _, some in sides for run in some]
    seen: dict[tuple[float, ...], ForeignRun] = {}
    for run in runs if len(runs) > 2 else ():
        first = seen.setdefault(run.ttft_s, run)
        if first is not run:
            raise UsageError(
                f"{first.path} and {run.path} hold the same run, to the last digit of its {len(run.ttft_s)} TTFTs; "
                "give each run once, since a copy says nothing about how much runs differ"
            )


def _frame(name: str, runs: Sequence[ForeignRun]) -> pd.DataFrame:
    """Rows as the comparison reads them."""
    return pd.concat(
        [
            pd.DataFrame({"run": place, "round": place, "arm": name, "prompt": range(len(run.ttft_s)), "ttft_s": run.ttft_s})
            for place, run in enumerate(runs)
        ],
        ignore_index=True,
    )


def _failed(sides: Sequence[tuple[str, Sequence[ForeignRun]]]) -> list[Finding]:
    reasons = []
    for name, runs in sides:
        failed = [run for run in runs if run.failed]
        if failed:
            count, total = sum(run.failed for run in failed), sum(len(run.ttft_s) + run.failed for run in runs)
            reason = shortened(failed[0].why, 200)
            reasons.append(found(Kind.FILE_FAILED, name, count=count, total=total, file=failed[0].path.name, reason=reason))
    return reasons


def _other_work(sides: Sequence[tuple[str, Sequence[ForeignRun]]]) -> list[Finding]:
    """Whether the sides, as far as the files tell, were sent other prompts, or at another load."""
    reasons, runs = [], [run for _, some in sides for run in some]
    lengths = [[length for run in some for length in run.prompt_tokens] for _, some in sides]
    if all(lengths):
        ours, theirs = (float(np.mean(some)) for some in lengths)
        if abs(theirs - ours) > SAME_LENGTH * ours:
            reasons.append(found(Kind.FILE_LENGTHS, ours=round(ours), theirs=round(theirs)))
    loads = list(dict.fromkeys(run.load for run in runs if run.load))
    tools = list(dict.fromkeys(run.tool for run in runs))
    if len(tools) > 1:
        reasons.append(found(Kind.FILE_TOOLS, tools=tuple(tools)))
    elif len(loads) > 1:
        reasons.append(found(Kind.FILE_LOADS, ours=shortened(loads[0], 200), theirs=shortened(loads[1], 200)))
    return reasons


def _warnings(sides: Sequence[tuple[str, Sequence[ForeignRun]]]) -> list[Finding]:
    runs = [run for _, some in sides for run in some]
    said = [found(Kind.FILES, tools=tuple(dict.fromkeys(run.tool for run in runs)))]
    said += [found(Kind.FILE_ALONE, name) for name, some in sides if len(some) == 1]
    if cut := sum(run.cut for run in runs):
        said.append(found(Kind.FILE_CUT, count=cut, total=cut + sum(len(run.ttft_s) + run.failed for run in runs)))
    return said
