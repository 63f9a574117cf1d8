"""From request rows to one value per run and metric, and on to pairs of runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.core.errors import ResultsError, UsageError, known
from harness.core.findings import Finding, Kind, found
from harness.stats.quantiles import Floats, metric_of, parse_metric


def run_table(frame: pd.DataFrame, metrics: Sequence[str], column: str = "ttft_s") -> pd.DataFrame:
    """One row per run in time order: run, pair, arm, requests, and a column of seconds for each metric.

    Raises UsageError for an unknown column or metric, ResultsError if there are no rows or a value is
    missing, negative or infinite.
    """
    for metric in metrics:
        parse_metric(metric)
    if column not in frame.columns:
        raise known("column", column, [str(name) for name in frame.columns if str(name).endswith("_s")])
    if len(frame) == 0:
        raise ResultsError("there are no requests to compare: every row is void or failed; look at run.json for the reasons")
    for name in ("run", "round", "arm"):
        if frame[name].isna().any():
            raise ResultsError(
                f"{int(frame[name].isna().sum())} requests have no '{name}'; requests.csv must have one in every row"
            )
    values = frame[column].to_numpy(dtype=np.float64, na_value=np.nan)
    _refuse_nonsense(frame, values, column)
    run = frame["run"].to_numpy(dtype=np.int64)
    order = np.argsort(run, kind="stable")
    runs, starts = np.unique(run[order], return_index=True)
    heads = order[starts]
    parts = np.split(values[order], starts[1:])
    return pd.DataFrame(
        {
            "run": runs,
            "round": frame["round"].iloc[heads].to_numpy(dtype=np.int64),
            "arm": frame["arm"].iloc[heads].to_numpy(dtype=object),
            "requests": [len(part) for part in parts],
            **{metric: [float(metric_of(part, metric)) for part in parts] for metric in metrics},
        }
    )


def _refuse_nonsense(frame: pd.DataFrame, values: Floats, column: str) -> None:
    wrong = ~np.isfinite(values) | (values < 0)
    if wrong.any():
        place = int(np.argmax(wrong))
        row = frame.iloc[place]
        raise ResultsError(
            f"run {row['run']}, prompt {row['prompt']} has {column} = {values[place]:g} ({int(wrong.sum())} such rows); "
            "it must be a number of seconds, not negative: delete the row or measure again"
        )


@dataclass(frozen=True, slots=True)
class Pairs:
    """Runs of two arms, round by round; all arrays have one entry per round, in the order of rounds.

    ``base`` and ``candidate`` map a metric to seconds. ``base_first`` says which arm went first.
    ``requests`` counts the requests behind them, both arms; ``smallest`` is the shortest run's.
    """

    rounds: tuple[int, ...]
    base: dict[str, Floats]
    candidate: dict[str, Floats]
    base_first: tuple[bool, ...]
    requests: int
    smallest: int
    warnings: tuple[Finding, ...]

    def log_ratios(self, metric: str) -> Floats:
        """log(candidate / base) of each round."""
        return np.asarray(np.log(self.candidate[metric] / self.base[metric]))


def paired(frame: pd.DataFrame, base: str, candidate: str, metrics: Sequence[str], column: str = "ttft_s") -> Pairs:
    """The rounds that hold a run of both arms, over the prompts that both runs have.

    ``warnings`` say what is excluded. Several runs of an arm in a round count as their
    geometric mean. Raises UsageError for an arm that isn't there, ResultsError if no round has both.
    """
    require_arms(frame, base, candidate)
    frame = frame[frame["arm"].isin([base, candidate])]
    frame, warnings = _shared_prompts(frame)
    table = run_table(frame, metrics, column)
    _refuse_zero(table, metrics, column)
    whole, lost = _whole_rounds(table, base, candidate)
    if lost:
        warnings.append(found(Kind.ROUNDS_LOST, lost=len(lost), total=len(lost) + len(whole), rounds=tuple(lost)))
    if not whole:
        raise ResultsError(f"no round has a run of both '{base}' and '{candidate}', so they cannot be compared in pairs")
    table = table[table["round"].isin(whole)]
    sides = {arm: table[table["arm"] == arm] for arm in (base, candidate)}
    first = {arm: side.groupby("round")["run"].min() for arm, side in sides.items()}
    return Pairs(
        rounds=tuple(whole),
        base={metric: _by_round(sides[base], metric) for metric in metrics},
        candidate={metric: _by_round(sides[candidate], metric) for metric in metrics},
        base_first=tuple(bool(answer) for answer in first[base] < first[candidate]),
        requests=int(table["requests"].sum()),
        smallest=int(table["requests"].min()),
        warnings=tuple(warnings),
    )


def require_arms(frame: pd.DataFrame, *arms: str) -> None:
    """Raise UsageError if an arm has no rows, or if two of them are the same."""
    there = [str(arm) for arm in frame["arm"].dropna().unique()]
    for arm in arms:
        if arm not in there:
            raise known("arm", arm, there)
    if len(set(arms)) < len(arms):
        raise UsageError(f"'{arms[0]}' is named as both arms; name two different ones of: {', '.join(sorted(there))}")


def _by_round(side: pd.DataFrame, metric: str) -> Floats:
    logs = np.log(side[metric]).groupby(side["round"]).mean()
    return np.asarray(np.exp(logs.to_numpy(dtype=np.float64)))


def _whole_rounds(table: pd.DataFrame, base: str, candidate: str) -> tuple[list[int], list[int]]:
    """Rounds with both arms, and rounds without."""
    arms_of = table.groupby("round")["arm"].nunique()
    return [int(pair) for pair in arms_of.index[arms_of == 2]], [int(pair) for pair in arms_of.index[arms_of != 2]]


def _refuse_zero(table: pd.DataFrame, metrics: Sequence[str], column: str) -> None:
    for metric in metrics:
        zero = table[table[metric] <= 0]
        if len(zero):
            row = zero.iloc[0]
            raise ResultsError(
                f"the {metric} of {column} is 0 in run {row['run']} of '{row['arm']}', so it has no ratio; compare another column"
            )


def _shared_prompts(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    """Only the prompts that every run of a round has: a slow request that failed must not make its arm look fast."""
    prompt = pd.Series(pd.factorize(frame["prompt"])[0], index=frame.index)
    # Runs with equal counts and equal sums of scrambled ids have the same prompts: the usual case, found fast.
    marks = pd.Series(pd.util.hash_array(prompt.to_numpy()) >> 16, index=frame.index)
    prints = marks.groupby(frame["run"]).agg(["size", "sum"])
    prints["round"] = frame.groupby("run")["round"].first()
    uneven = prints.groupby("round").nunique().gt(1).any(axis=1)
    if not uneven.any():
        return frame, []
    keep = pd.Series(True, index=frame.index)
    for pair in uneven.index[uneven]:
        rows = frame["round"] == pair
        runs = frame.loc[rows, "run"].nunique()
        shared = frame.loc[rows, "run"].groupby(prompt[rows]).nunique()
        keep[rows] = prompt[rows].isin(shared.index[shared == runs])
    lost = int((~keep).sum())
    if lost == 0:
        return frame, []
    return frame[keep], [found(Kind.REQUESTS_LOST, count=lost)]
