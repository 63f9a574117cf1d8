"""What the lanes wrote, each in its own folder, becomes one measurement: global numbers, one run.json.

A lane may be of another version of ttft: only columns that this version knows are taken.
"""

import csv
import io
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from harness.core.csv_cells import meant
from harness.core.errors import RunError
from harness.experiment.rows import TokenWitness
from harness.results import REQUEST_COLUMNS, SPAN_COLUMNS, RunWriter, complete_lines, complete_rows
from harness.results.conditions import differences
from harness.results.schema import RENAMED
from harness.results.side_tables import NEIGHBOUR_COLUMNS, append_neighbours


class Tail:
    """A file's bytes since the last call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def read(self, complete: Callable[[bytes], int]) -> bytes:
        """``complete``: the length of what is whole of some bytes; the rest comes with the next call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                data = file.read()
        except FileNotFoundError:  # optional, or another version's habit; missing rows are noticed
            return b""
        except OSError as error:
            raise RunError(f"{self.path} cannot be read: {error.strerror}") from error
        length = complete(data)
        self._read += length
        return data[:length]


class CsvTail:
    """A CSV file's rows since the last call, as far as they are whole; only the columns that this version knows."""

    def __init__(self, path: Path, columns: Collection[str]) -> None:
        self._tail = Tail(path)
        self._columns = columns
        self._header: list[str] = []

    def rows(self) -> list[dict[str, str]]:
        """By column."""
        data = self._tail.read(complete_rows)
        try:
            lines = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise RunError(f"{self._tail.path} cannot be read: {error}") from error
        if not self._header and lines:
            self._header = [RENAMED.get(name, name) for name in lines.pop(0)]
        rows = [dict(zip(self._header, line, strict=False)) for line in lines]
        return [{name: meant(value) for name, value in row.items() if name in self._columns} for row in rows]


class LaneRows:
    """What is new in a lane's folder since the last look. Every call raises RunError for what cannot be read."""

    def __init__(self, folder: Path) -> None:
        self._meta = folder / "run.json"
        self._requests = CsvTail(folder / "requests.csv", REQUEST_COLUMNS)
        self._neighbours = CsvTail(folder / "neighbours.csv", NEIGHBOUR_COLUMNS)
        self._spans = Tail(folder / "spans.jsonl")

    def requests(self) -> list[dict[str, str]]:
        """New rows of requests.csv."""
        return self._requests.rows()

    def neighbours(self) -> list[dict[str, str]]:
        """New rows of neighbours.csv."""
        return self._neighbours.rows()

    def spans(self) -> list[dict[str, Any]]:
        """New spans."""
        data = self._spans.read(complete_lines)
        try:
            spans = [json.loads(line) for line in data.splitlines()]
            return [{name: value for name, value in span.items() if name in SPAN_COLUMNS} for span in spans]
        except (ValueError, RecursionError, AttributeError) as error:
            raise RunError(f"{self._spans.path} cannot be read: {error}") from error

    def void(self, run: int) -> list[dict[str, Any]]:
        """Why the lane itself says that this run does not count: some reasons belong to no single row."""
        try:
            entries = json.loads(self._meta.read_text(encoding="utf-8")).get("void_runs", [])
            return [dict(entry) for entry in entries if entry["run"] == run]
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"{self._meta} cannot be read: {error}") from error


def arm_of(arm: str, lane: str) -> str:
    """An arm's name beside the same arm of another lane."""
    return f"{arm}@{lane}"


class Combiner:
    """Appends the runs of all lanes to one writer, and compares their tokens."""

    def __init__(self, writer: RunWriter, arms: Mapping[str, Mapping[str, Any]], one_by_one: bool) -> None:
        """``arms``: the entries of run.json by combined name. ``one_by_one``: no two requests shared a batch, so that
        their tokens can be compared at all."""
        self._writer = writer
        self._arms = arms
        self._one_by_one = one_by_one
        self._witness = TokenWitness()

    def take(
        self, rows: LaneRows, called: str, theirs: int, run: int, suffix: str = ""
    ) -> tuple[list[float | None], list[dict[str, object]]]:
        """Append what a lane has left of its run ``theirs``, as run ``run``: the TTFTs and the void entries for run.json.

        ``called``: the lane, in messages. ``suffix``: of its arms' names here. Raises RunError if there are rows of
        another run, or none.
        """
        new = rows.requests()
        if not new or {row.get("run") for row in new} != {str(theirs)}:
            raise RunError(
                f"the {called} said that its run {theirs} is done, but left {len(new)} rows of it; see its requests.csv"
            )
        void: list[dict[str, object]] = []
        for row in new:
            arm = row["arm"] + suffix
            # Which blocks are sampled may differ between versions; each lane has proven its own.
            combined: dict[str, object] = {**row, "run": run, "arm": arm, "kv_digest": ""}
            if not row.get("void") and not row.get("error") and (reason := self._token_reason(arm, row)):
                combined["void"] = reason
                void.append({"run": run, "arm": arm, "prompt": row["prompt"], "reason": reason})
            self._writer.append(combined)
        self._writer.append_spans({**span, "run": run} for span in rows.spans())
        if neighbours := rows.neighbours():
            append_neighbours(self._writer.path, [{**row, "run": run, "arm": row["arm"] + suffix} for row in neighbours])
        told = [{**entry, "run": run, "arm": new[0]["arm"] + suffix} for entry in rows.void(theirs)]
        return [float(row["ttft_s"]) if row.get("ttft_s") else None for row in new], told + void

    def _token_reason(self, arm: str, row: Mapping[str, str]) -> str:
        if not self._one_by_one or not self._arms[arm].get("loads_kv"):
            return ""
        return self._witness.reason(row["prompt"], int(row.get("hit_tokens") or 0), arm, row.get("output_digest", ""))


SHARED = ("versions", "machine", "binding", "geometry", "direct_reads", "data")
"""Taken from the base: they are equal, or the measurement has been refused."""


def combine_metas(metas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the run.json of two versions say together; ``metas`` by lane, the base first.

    Raises RunError if the two versions read the same settings differently, or have other arms.
    """
    ours, theirs = metas.values()
    if found := differences(ours, theirs):
        raise RunError(f"the two versions do not measure the same: {found[0]}; say it by --set")
    names = {lane: [str(arm["name"]) for arm in meta["arms"]] for lane, meta in metas.items()}
    if len({tuple(some) for some in names.values()}) > 1:
        raise RunError(f"the two versions measure other arms: {'; '.join(f'{lane}: {some}' for lane, some in names.items())}")
    arms = [
        {**entry, "name": arm_of(entry["name"], lane)}
        for position in range(len(ours["arms"]))
        for lane, meta in metas.items()
        for entry in [meta["arms"][position]]
    ]
    config = {**ours["config"], "arms": [arm_of(arm, lane) for arm in ours["config"]["arms"] for lane in metas]}
    shared = {name: ours[name] for name in SHARED if name in ours}
    return {**shared, "config": config, "arms": arms, "correctness": _correctness(metas)}


def _correctness(metas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Passed only if both passed; a lane that failed has ended the run before this."""
    proofs = {lane: dict(meta.get("correctness") or {"status": "skipped"}) for lane, meta in metas.items()}
    passed = all(proof.get("status") == "passed" for proof in proofs.values())
    return {"status": "passed" if passed else "skipped", **proofs}
