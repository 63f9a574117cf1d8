"""What came of the cells of the fault matrix, as tables."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from harness.testing.engine_loads import Outcome


class Found(NamedTuple):
    """What came of the broken chunks of a cell. ``engine``: "none" where none took part."""

    engine: str
    store: str
    fault: str
    outcome: Outcome


FOUND: Counter[Found] = Counter()
"""Of all cells so far."""


def tables() -> str:
    """All cells so far in Markdown: a row per fault and a column per store, then a row per engine and a column per outcome."""
    stores = list(dict.fromkeys(found.store for found in FOUND))
    faults = list(dict.fromkeys(found.fault for found in FOUND))
    rows = [["fault", *stores]]
    for fault in faults:
        met = [{found.outcome for found in FOUND if (found.store, found.fault) == (store, fault)} for store in stores]
        rows.append([fault, *(", ".join(sorted(outcomes)) or "-" for outcomes in met)])
    outcomes: Sequence[Outcome] = ("right", "missed", "refused", "wrong")
    counts = [["engine", "stores and faults", *outcomes]]
    for engine in sorted({found.engine for found in FOUND} - {"none"}):
        own = [found for found in FOUND if found.engine == engine]
        each = [str(sum(FOUND[found] for found in own if found.outcome == outcome)) for outcome in outcomes]
        counts.append([engine, str(len({(found.store, found.fault) for found in own})), *each])
    return f"{_markdown(rows)}\n\n{_markdown(counts)}"


def _markdown(rows: list[list[str]]) -> str:
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
