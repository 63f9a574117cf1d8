"""The rows of two sides become one run's: global numbers, arms called ARM@base and ARM@head."""

from collections.abc import Callable, Mapping
from typing import Any

from harness.core.errors import RunError
from harness.experiment.lanes.side_rows import SideRows
from harness.experiment.rows import TokenWitness
from harness.results import RunWriter
from harness.results.side_tables import append_neighbours


def arm_of(arm: str, side: str) -> str:
    """An arm's name in the combined run."""
    return f"{arm}@{side}"


class Combiner:
    """Appends both sides' runs to one writer, and holds their tokens against each other."""

    def __init__(
        self,
        writer: RunWriter,
        arms: Mapping[str, Mapping[str, Any]],
        one_by_one: bool,
        name_of: Callable[[str, str], str] = arm_of,
    ) -> None:
        """``arms``: the entries of run.json by combined name. ``one_by_one``: no two requests shared a batch, so that
        their tokens can be compared at all. ``name_of``: the combined name of a side's arm."""
        self._name_of = name_of
        self._writer = writer
        self._arms = arms
        self._one_by_one = one_by_one
        self._witness = TokenWitness()

    def take(self, rows: SideRows, side: str, theirs: int, run: int) -> tuple[list[float | None], list[dict[str, object]]]:
        """Append what a side has left of its run ``theirs``, as run ``run``: the TTFTs and the void entries for run.json.

        Raises RunError where there are rows of another run, or none.
        """
        new = rows.requests()
        if not new or {row.get("run") for row in new} != {str(theirs)}:
            raise RunError(f"the {side} said that its run {theirs} is done, but left {len(new)} rows of it; see its requests.csv")
        void: list[dict[str, object]] = []
        for row in new:
            arm = self._name_of(row["arm"], side)
            # Which blocks are sampled may differ between versions; each side has proven its own.
            combined: dict[str, object] = {**row, "run": run, "arm": arm, "kv_digest": ""}
            if not row.get("void") and not row.get("error") and (reason := self._token_reason(arm, row)):
                combined["void"] = reason
                void.append({"run": run, "arm": arm, "prompt": row["prompt"], "reason": reason})
            self._writer.append(combined)
        self._writer.append_spans({**span, "run": run} for span in rows.spans())
        if neighbours := rows.neighbours():
            append_neighbours(
                self._writer.path, [{**row, "run": run, "arm": self._name_of(row["arm"], side)} for row in neighbours]
            )
        told = [{**entry, "run": run, "arm": self._name_of(new[0]["arm"], side)} for entry in rows.void(theirs)]
        return [float(row["ttft_s"]) if row.get("ttft_s") else None for row in new], told + void

    def _token_reason(self, arm: str, row: Mapping[str, str]) -> str:
        if not self._one_by_one or not self._arms[arm].get("loads_kv"):
            return ""
        return self._witness.reason(row["prompt"], arm, row.get("output_digest", ""))
