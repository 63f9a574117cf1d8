"""``sweep.csv``: one row per point, arm and metric; points that are not measured have one row with the reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.core.errors import ResultsError
from harness.core.findings import Kind, Severity
from harness.core.text import printable, without_secrets
from harness.experiment.sweep.axes import Axis
from harness.experiment.sweep.grid import arm_values
from harness.experiment.sweep.state import State
from harness.reporting.serving import harm_base
from harness.reporting.summary import ArmSummary, Summary, finite, summarise
from harness.results import load
from harness.results.evidence import Arm, Evidence, gather
from harness.results.side_tables import load_neighbours
from harness.stats.compare import few_requests
from harness.stats.harm import harm

BESIDE: Mapping[str, str] = {"decode": "gap_p95", "probe": "probe_p95"}
"""What neighbours heard, and the metric's name: the p95 of the gaps between their tokens, of the TTFT of short prompts."""

COLUMNS: Mapping[str, str] = {
    "point": "Int64",  # number in the grid, from 1
    "folder": "string",  # the point's run below the sweep's folder
    "status": "string",  # complete, void (some runs do not count), failed, waiting, measuring
    "reason": "string",  # why a point failed or is void
    # then a column for each axis; an option of an engine is empty in the rows of other arms
    "arm": "string",
    "engine": "string",
    "metric": "string",  # of TTFT: mean, p50, p90, p95, p99; of neighbours: gap_p95, probe_p95
    "base": "string",  # the arm that the ratio is to
    "ratio": "float64",  # 1 for the base itself
    "ratio_low": "float64",  # bounds of the 95% interval; empty if the pairs leave them open
    "ratio_high": "float64",
    "seconds": "float64",  # centre of the runs
    "seconds_low": "float64",
    "seconds_high": "float64",
    "n_pairs": "Int64",  # rounds behind the ratio
    "n_runs": "Int64",
    "n_requests": "Int64",  # counted requests of the arm; of neighbours: gaps or probes
    "warnings": "string",
}
HEAD = ("point", "folder", "status", "reason")


@dataclass(frozen=True, slots=True)
class Measured:
    """A point that was measured, with all its numbers. ``warnings`` are those of the whole point."""

    number: int
    values: Mapping[str, str]
    status: str
    summary: Summary

    @property
    def rows(self) -> pd.DataFrame:
        """Its requests that count."""
        return self.summary.evidence.rows


def measured_points(state: State) -> tuple[list[Measured], dict[int, str]]:
    """The points that are finished, and why others that are finished cannot be read, by number."""
    found, unreadable = [], {}
    for point in state.grid.points:
        progress = state.of(point.number)
        if not progress.finished:
            continue
        try:
            summary = summarise(gather(load(state.run_folder(point.number), spans=False)))
        except ResultsError as error:
            unreadable[point.number] = str(error)
            continue
        if progress.status == "complete" and summary.evidence.rows.empty:
            unreadable[point.number] = f"{state.run_folder(point.number) / 'requests.csv'} holds no request that counts any more"
            continue
        found.append(Measured(point.number, point.values, progress.status, summary))
    return found, unreadable


def long_table(state: State, points: Sequence[Measured], unreadable: Mapping[int, str]) -> pd.DataFrame:
    """All rows, with COLUMNS and those of the axes."""
    by_number = {point.number: point for point in points}
    rows: list[dict[str, Any]] = []
    for place in state.grid.points:
        number, progress = place.number, state.of(place.number)
        head: dict[str, Any] = {
            "point": number,
            "folder": f"points/{place.folder}",
            "status": "failed" if number in unreadable else progress.status,
            "reason": printable(without_secrets(unreadable.get(number, progress.reason))),
            **place.values,
        }
        told = list(_rows(by_number[number], state.grid.arm_axes)) if number in by_number else []
        rows += [head | row for row in told] or [head]
    return _typed(rows, state.grid.axes)


def _typed(rows: Sequence[Mapping[str, Any]], axes: Sequence[Axis]) -> pd.DataFrame:
    keys = {axis.key: "string" if axis.numbers is None else "float64" for axis in axes}
    kinds = {**{name: COLUMNS[name] for name in HEAD}, **keys, **COLUMNS}
    frame = pd.DataFrame(list(rows), columns=list(kinds))
    for name, kind in kinds.items():
        if kind in ("float64", "Int64"):
            frame[name] = pd.to_numeric(frame[name], errors="coerce")
        else:
            frame[name] = frame[name].replace("", None)
    return frame.astype(kinds)


def _rows(point: Measured, arm_axes: Sequence[Axis]) -> list[dict[str, Any]]:
    summary = point.summary
    first = summary.first.arm.name if summary.first is not None else None
    beside = _beside(summary.evidence)
    rows = []
    for arm in summary.arms:
        who = {**arm_values(arm.arm.name, arm_axes), "arm": arm.arm.name, "engine": arm.arm.engine}
        for metric in arm.ttft:
            rows.append(who | {"metric": metric, "base": first} | _ttft(arm, metric, arm.arm.name == first, summary))
        rows += [who | row for row in beside.get(arm.arm.name, ())]
    return rows


def _ttft(arm: ArmSummary, metric: str, is_first: bool, summary: Summary) -> dict[str, Any]:
    time, found = arm.ttft[metric], arm.ratios.get(metric)
    row: dict[str, Any] = {
        "seconds": finite(time.value),
        "seconds_low": finite(time.low) or None,  # a time above 0 is known beforehand: no bound
        "seconds_high": finite(time.high),
        "n_runs": arm.runs,
        "n_requests": arm.requests,
        "warnings": _doubts(arm, metric, summary),
    }
    if is_first:
        return row | {"ratio": 1.0, "n_pairs": arm.runs}
    if found is None:
        return row
    return row | {"ratio": found.ratio, **_bounds(found.low, found.high), "n_pairs": found.n_pairs}


def _doubts(arm: ArmSummary, metric: str, summary: Summary) -> str:
    found = arm.ratios.get(metric)
    own = list(found.warnings) if found is not None else list(arm.findings)
    if found is None and metric in arm.thin:
        smallest = int(summary.evidence.of(arm.arm).groupby("run").size().min())
        own += few_requests(metric, smallest)
    grave = [one for one in summary.evidence.findings if one.severity is Severity.VOID or one.kind is Kind.PARTIAL]
    return "; ".join(map(str, dict.fromkeys([*grave, *own])))


def _beside(evidence: Evidence) -> dict[str, list[dict[str, Any]]]:
    """Rows about the neighbours, by arm; empty if nobody else was served."""
    heard = load_neighbours(evidence.run.path)
    heard = heard[heard["run"].isin(evidence.rows["run"].unique())]
    if heard.empty:
        return {}
    base = harm_base(evidence.arms, heard["arm"].unique().tolist())
    rounds = {name: set(some["round"]) for name, some in heard.groupby("arm")}
    found: dict[str, list[dict[str, Any]]] = {}
    for row in harm(heard, base).to_dict("records"):
        found.setdefault(str(row["arm"]), []).append(
            {
                "metric": BESIDE[str(row["kind"])],
                "base": base,
                "ratio": finite(row["p95_ratio"]),
                **({} if row["arm"] == base else _bounds(row["p95_ratio_low"], row["p95_ratio_high"])),
                "seconds": finite(row["p95_s"]),
                "n_pairs": len(rounds[row["arm"]] & rounds[base]),
                "n_runs": row["runs"],
                "n_requests": row["count"],
            }
        )
    return found


def _bounds(low: float, high: float) -> dict[str, float | None]:
    return {"ratio_low": finite(low) or None, "ratio_high": finite(high)}


def arms_in(points: Sequence[Measured]) -> list[Arm]:
    """Every arm that was measured, bounds last, each once."""
    arms: dict[str, Arm] = {}
    for point in points:
        for arm in point.summary.arms:
            arms.setdefault(arm.arm.name, arm.arm)
    return sorted(arms.values(), key=lambda arm: arm.bound)
