"""Tables of what is not TTFT: rates, gaps between tokens, goodput, and what the neighbours went through."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from harness.core.table import Cell, Table
from harness.reporting.summary import Summary
from harness.reporting.wording import seconds
from harness.results.evidence import Arm
from harness.results.side_tables import load_neighbours
from harness.stats.harm import harm
from harness.stats.serving import parse_slo, serving

KINDS = {"decode": "gap between tokens", "probe": "TTFT of short prompts"}


def service(summary: Summary) -> Table | None:
    """Rates and times of each arm beside its TTFT; None if one request after the other was sent and nothing was asked."""
    evidence = summary.evidence
    busy = (evidence.setting("concurrency", "1"), evidence.setting("arrivals", "closed")) != ("1", "closed")
    slo = evidence.setting("slo", "")
    if evidence.rows.empty or not (busy or slo or evidence.setting("neighbours", "0") != "0"):
        return None
    objectives = parse_slo(slo)
    table = serving(evidence.rows, objectives).set_index("arm")
    head = ["arm", "requests/s", "tokens/s", "e2e p50", "e2e p95", "queue p95", "TPOT p50", "TPOT p95", "longest gap p95"]
    head += ["lag p95", *(("good/s", "good") if objectives else ())]
    rows = [_service(arm, table.loc[arm.name].to_dict(), bool(objectives)) for arm in _known(summary, table.index)]
    caption = "The service as a whole: medians over the runs" + (f"; good means {slo}" if slo else "")
    return Table(caption, head, rows)


def _service(arm: Arm, row: Mapping[Hashable, Any], with_goodput: bool) -> list[Cell]:
    times = ["e2e_p50_s", "e2e_p95_s", "queue_p95_s", "tpot_p50_s", "tpot_p95_s", "itl_max_p95_s", "lag_p95_s"]
    cells = [_name(arm), Cell(f"{row['requests_per_s']:.3g}"), Cell(f"{row['output_tokens_per_s']:.3g}")]
    cells += [_time(row[name]) for name in times]
    if with_goodput:
        cells += [Cell(f"{row['goodput_per_s']:.3g}"), Cell(f"{100 * row['good_share']:.0f}%")]
    return cells


def neighbours(summary: Summary) -> Table | None:
    """Gain and harm side by side; None if nobody else was served."""
    heard = load_neighbours(summary.evidence.run.path)
    heard = heard[heard["run"].isin(summary.evidence.rows["run"].unique())]
    if heard.empty:
        return None
    base = harm_base(summary.evidence.arms, heard["arm"].unique().tolist())
    table = harm(heard, base)
    head = ["arm", "beside it", "heard", "p50", "p95", "longest", f"p95 / {base}'s", f"its own {summary.metric} / first arm's"]
    gains = {arm.arm.name: arm.ratios[summary.metric].ratio for arm in summary.arms if summary.metric in arm.ratios}
    rows = []
    for arm in _known(summary, table["arm"]):
        for _, row in table[table["arm"] == arm.name].iterrows():
            ratio = _ratio(row["p95_ratio"], row["p95_ratio_low"], row["p95_ratio_high"], arm.name == base)
            times = [_time(float(row[name])) for name in ("p50_s", "p95_s", "max_s")]
            gain = Cell(
                f"{gains[arm.name]:.2f}"
                if arm.name in gains
                else "1"
                if summary.first is not None and summary.first.arm == arm
                else "-"
            )
            rows.append([_name(arm), Cell(KINDS[str(row["kind"])]), Cell(f"{int(row['count']):,}"), *times, ratio, gain])
    return Table("Gain and harm: what each arm's neighbours went through, medians over the runs", head, rows)


def harm_base(arms: Sequence[Arm], heard: Sequence[str]) -> str:
    """The arm that neighbours are held against: the floor, which computes the same and loads nothing; else the first."""
    names = [arm.name for arm in arms if arm.name in heard]
    return next((arm.name for arm in arms if arm.engine == "floor" and arm.name in heard), names[0] if names else "")


def _known(summary: Summary, names: Iterable[object]) -> list[Arm]:
    there = set(names)
    return [arm for arm in summary.evidence.arms if arm.name in there]


def _name(arm: Arm) -> Cell:
    return Cell(arm.name + (" †" if arm.bound else ""))


def _time(value: float) -> Cell:
    return Cell("-" if math.isnan(value) else seconds(value))


def _ratio(value: float, low: float, high: float, base: bool) -> Cell:
    if base:
        return Cell("1")
    if math.isnan(value):
        return Cell("-")
    known = math.isfinite(low) and math.isfinite(high) and low > 0
    mark = "~" if not known or low <= 1 <= high else ""
    return Cell(f"{mark}{value:.2f}", f"{low:.2f} to {high:.2f}" if known else "unknown")
