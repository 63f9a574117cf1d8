"""How arms that choose for each request have chosen, and why."""

from harness.core.findings import counted
from harness.core.table import Cell, Table
from harness.reporting.summary import Summary


def choices(summary: Summary) -> Table | None:
    """A row per arm and way, the most frequent first, with the choice of its median request and the reason; None without any."""
    rows = []
    for arm in summary.evidence.arms:
        mine = summary.evidence.of(arm)
        mine = mine[mine["how"].notna()]
        ways = mine["how"].str.split(":").str[0]
        for way, count in ways.astype(object).value_counts().items():
            own = mine[ways == way].sort_values("ttft_s", kind="stable")
            middle = own.iloc[(len(own) - 1) // 2]
            told = Cell(f"{count / len(mine):.0%}", f"of {counted(len(mine), 'request')}")
            reason = "" if middle.isna()["why"] else str(middle["why"])
            rows.append([Cell(arm.name), Cell(str(way)), told, Cell(str(middle["how"])), Cell(reason)])
    if not rows:
        return None
    head = ["arm", "way", "of its requests", "the median one of them", "why"]
    return Table("What the arms chose, and why", head, rows, left=2, bare=2)
