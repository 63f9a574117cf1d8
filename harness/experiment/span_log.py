"""The connector's span log as it grows, ours (harness/core/spans.py) and a peer's (connector/peers/adapters/traced.py)."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from harness.core.errors import RunError
from harness.core.text import shortened
from harness.experiment.span_records import check_record
from harness.replay.outcome import Outcome


class SpanLogReader:
    """Follows every ``worker-*.jsonl`` of a folder. ``saved`` maps a chunk key to its layers' checksums.

    ``prefix``: only requests whose label begins with it are kept, under what follows: others may use the same server.
    """

    def __init__(self, folder: Path | None, prefix: str = "") -> None:
        """``folder``: None if it cannot be read, so that there is never anything new."""
        self._folder = folder
        self.prefix = prefix
        self._offsets: dict[Path, int] = {}
        self.start: dict[str, Any] = {}
        self.saved: dict[str, list[int]] = {}
        self.save_errors: list[str] = []
        self._lookups: dict[str, dict[str, Any]] = {}
        self._loads: dict[str, list[dict[str, Any]]] = {}

    def poll(self) -> None:
        """Take in what is new; a line that is still being written waits for the next call."""
        for path in self._files():
            with _readable(path):
                if path.stat().st_size < self._offsets.get(path, 0):  # it began anew: what is left to read moved aside
                    with _readable(aside := path.with_name(path.name + ".1")):
                        self._read(aside, self._offsets[path])
                    self._offsets[path] = 0
                self._offsets[path] = self._read(path, self._offsets.get(path, 0))

    def _read(self, path: Path, begin: int) -> int:
        """Take in the whole lines of a file from ``begin`` on; returns where they end. Raises OSError, RunError."""
        with path.open("rb") as file:
            file.seek(begin)
            data = file.read()
        end = data.rfind(b"\n") + 1
        for line in data[:end].splitlines():
            self._take_line(path, line)
        return begin + end

    def _take_line(self, path: Path, line: bytes) -> None:
        try:
            record = json.loads(line)
            if self._is_ours(record):
                check_record(record["kind"], line)
                self._take(record)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            shown = shortened(line.decode(errors="replace"), 100)
            raise RunError(
                f"{path} has a line that no span log has: {shown}; remove the file, or give the right folder"
            ) from error

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("worker-*.jsonl")) if self._folder is not None else []

    def skip(self) -> None:
        """Begin after what is there, except how each process named itself: a server may have served others for days."""
        for path in self._files():
            with _readable(path), path.open("rb") as file:
                first = file.readline()
                self._offsets[path] = _last_line_end(file)
                if first.endswith(b"\n"):
                    self._take_line(path, first)

    def _is_ours(self, record: dict[str, Any]) -> bool:
        """Records of processes and chunks concern everybody, those of requests whoever sent them."""
        return record["kind"] not in ("lookup", "load") or record.get("label", "").startswith(self.prefix)

    def _take(self, record: dict[str, Any]) -> None:
        kind, label = record["kind"], record.get("label", "")
        if kind == "lookup":
            self._lookups[label.removeprefix(self.prefix)] = record
        elif kind == "load":
            self._loads.setdefault(label.removeprefix(self.prefix), []).append(record)
        elif kind == "save":
            self.saved[record["key"]] = record["checksums"]
        elif kind == "save_error":
            self.save_errors.append(record["error"])
        elif kind == "start":
            self.start = record

    def lookup(self, label: str) -> dict[str, Any] | None:
        """The lookup of a request, once."""
        return self._lookups.pop(label, None)

    def loads(self, label: str) -> list[dict[str, Any]]:
        """The loads of a request, one per rank (more after a preemption), once."""
        return self._loads.pop(label, [])

    def forget(self, keys: Iterable[str]) -> None:
        """These chunks were deleted."""
        for key in keys:
            self.saved.pop(key, None)

    def begin_anew(self) -> None:
        """Forget all that was read except how each process named itself: another experiment begins."""
        self.saved.clear()
        self.save_errors.clear()
        self._lookups.clear()
        self._loads.clear()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """The body reads ``path``. One that is gone has nothing new: its writer moves it aside, and begins another one a moment
    later. Raises RunError for one that cannot be read."""
    try:
        yield
    except FileNotFoundError:
        pass
    except OSError as error:
        raise RunError(f"the span log {path} cannot be read: {error.strerror}; give the folder of a server's span log") from error


def _last_line_end(file: BinaryIO) -> int:
    """Behind the last whole line: somebody may be writing the next one."""
    end = file.seek(0, 2)
    while end:
        begin = max(0, end - 65536)
        file.seek(begin)
        newline = file.read(end - begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0


class PeerLogReader(SpanLogReader):
    """Peers know nothing of labels, so a request gets what lies in its time; it must have been alone then."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._asked: list[dict[str, Any]] = []
        self._forwards: list[dict[str, Any]] = []

    def _take(self, record: dict[str, Any]) -> None:
        if record["kind"] == "lookup":
            self._asked.append(record)
        elif record["kind"] == "forward":
            self._forwards.append(record)
        else:
            super()._take(record)

    def settle(self, label: str, outcome: Outcome) -> None:
        """Keep what happened from sending a request to its first token under ``label``, and forget what was before."""
        self.poll()
        asked, forwards = self._asked, self._forwards
        self._asked, self._forwards = [], []
        if outcome.first_s is None:
            return
        begin, end = outcome.sent_s, outcome.first_s
        asked = [one for one in asked if begin <= one["start_s"] <= end]
        prefills = _prefills([one for one in forwards if begin <= one["start_s"] and one["end_s"] <= end])
        if not asked or not prefills:
            return
        lookup = _lookup(asked, min(one["start_s"] for own in prefills.values() for one in own), outcome.queue_s)
        self._lookups[label] = lookup
        if lookup["hit_tokens"]:
            self._loads[label] = [_load(label, rank, own, lookup) for rank, own in prefills.items()]


def _prefills(forwards: Sequence[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """By rank: the first forward and those of further parts of the prompt. The next step, of one token, may have ended
    before the client had the first token in its hands."""
    ranks: dict[int, list[dict[str, Any]]] = {}
    for one in forwards:
        own = ranks.setdefault(one["rank"], [])
        if not own or one["tokens"] != 1:
            own.append(one)
    return dict(sorted(ranks.items()))


def _lookup(asked: Sequence[dict[str, Any]], forward_s: float, queue_s: float | None) -> dict[str, Any]:
    """As our connector records it, and what ours has not.

    ``outside``: it lay before the step that computes, where vLLM counts it as queue: the connector had to be asked again,
    or loads between two steps. ``waited_s``: from the first answer to that step: such a connector was loading then.
    """
    first, last = asked[0], asked[-1]
    outside = len(asked) > 1 or last.get("between_steps")
    found = {"start_s": first["start_s"], "end_s": first["end_s"], "hit_tokens": last["hit_tokens"], "outside": outside}
    if not outside or not last["hit_tokens"]:
        return {**found, "end_s": last["end_s"], "waited_s": 0.0}
    waited_s = forward_s - first["end_s"]
    if queue_s is not None:  # vLLM's queue ends where the step is planned, a little before the worker has it
        waited_s = min(waited_s, queue_s - (first["end_s"] - first["start_s"]))
    return {**found, "waited_s": max(waited_s, 0.0)}


def _load(label: str, rank: int, forwards: Sequence[dict[str, Any]], lookup: dict[str, Any]) -> dict[str, Any]:
    """As our connector records a load, as far as it shows from outside: when the forward waited, not what was fetched."""
    spans = [span for one in forwards for span in one["spans"]]
    if lookup["waited_s"]:
        spans.insert(0, ["wait", -1, lookup["end_s"], lookup["end_s"] + lookup["waited_s"]])
    return {
        "label": label,
        "rank": rank,
        "start_s": None,
        "end_s": None,
        "stall_s": sum(end - start for kind, _, start, end in spans if kind == "wait"),
        "spans": [[*span, None, None] for span in spans],
        "proof": None,
    }
