"""What loading alone costs, ours beside each peer: TTFT less that of the floor arm, which computes the same and loads nothing."""

from collections.abc import Mapping
from typing import Any

from harness.core.chunks import KVGeometry
from harness.core.errors import ResultsError
from harness.core.table import Cell, Table
from harness.reporting.summary import Summary
from harness.reporting.wording import bounds, ratio, seconds
from harness.results.evidence import Arm
from harness.stats import share_hidden
from harness.stats.location import interval
from harness.stats.runs import run_table


def loads(summary: Summary) -> Table | None:
    """Each loading arm's load, its ratio to each peer's, and the bytes that it keeps; None without peers or a floor."""
    evidence = summary.evidence
    told: Mapping[str, Any] = evidence.run.meta.get("peers") or {}
    counted = [arm for arm in evidence.arms if len(evidence.of(arm))]
    floor = next((arm for arm in counted if arm.engine == "floor"), None)
    peers = [arm for arm in counted if arm.name in told]
    if floor is None or not peers:
        return None
    head = ["arm", f"load: {summary.metric} less {floor.name}'s", *(f"of {peer.name}'s load" for peer in peers), "stored"]
    rows = []
    for arm in counted:
        if arm.bound:
            continue
        against = [Cell("1") if arm == peer else _against(summary, arm, peer, floor) for peer in peers]
        rows.append([Cell(arm.name), _load(summary, arm, floor), *against, _stored(summary, told.get(arm.name))])
    return Table("Loading alone: ours beside the peers", head, rows)


def _load(summary: Summary, arm: Arm, floor: Arm) -> Cell:
    """The centre of the rounds' differences, and its interval."""
    rows = summary.evidence.rows
    table = run_table(rows[rows["arm"].isin([arm.name, floor.name])], [summary.metric])
    wide = table.pivot_table(index="round", columns="arm", values=summary.metric, aggfunc="mean").dropna()
    if not len(wide):
        return Cell("-")
    found = interval(wide[arm.name] - wide[floor.name])
    return Cell(seconds(found.value), f"{seconds(found.low)} to {seconds(found.high)}" if len(wide) > 1 else "")


def _against(summary: Summary, arm: Arm, peer: Arm, floor: Arm) -> Cell:
    """(arm - floor) / (peer - floor): what share_hidden leaves of the peer's load."""
    try:
        found = share_hidden(summary.evidence.rows, arm.name, peer.name, floor.name, summary.metric)
    except ResultsError:  # no round has all three
        return Cell("-")
    if found.value is None or found.low is None or found.high is None:
        return Cell("-")
    return Cell(ratio(max(1 - found.value, 0.0)), bounds(1 - found.high, 1 - found.low))


def _stored(summary: Summary, peer: Mapping[str, Any] | None) -> Cell:
    """Bytes of KV cache that were primed; of a peer what lies on its disk, where the prompts of warm-up and proof stay."""
    if peer is not None:
        return Cell(_mib(int(peer.get("stored_bytes") or 0)), "warm-up and proofs too") if peer.get("files") else Cell("-")
    meta = summary.evidence.run.meta
    shape, chunks = meta.get("geometry"), (meta.get("data") or {}).get("primed_chunks")
    return Cell(_mib(KVGeometry(**shape).chunk_bytes * int(chunks))) if shape and chunks else Cell("-")


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
