"""What a peer's connector was seen to do (harness/peers/adapters/traced.py), request by request."""

from pathlib import Path
from typing import Any

from harness.experiment.trace_reader import TraceReader


class PeerTrace(TraceReader):
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

    def settle(self, label: str, sent_s: float, first_s: float) -> None:
        """File what happened from sending a request to its first token under ``label``, and forget what was before."""
        self.poll()
        asked = [record for record in self._asked if sent_s <= record["start_s"] <= first_s]
        forwards = [record for record in self._forwards if sent_s <= record["start_s"] <= first_s]
        self._asked.clear()
        self._forwards.clear()
        if not asked or not forwards:
            return
        lookup = {"start_s": asked[0]["start_s"], "end_s": asked[-1]["end_s"], "hit_tokens": asked[-1]["hit_tokens"]}
        self._lookups[label] = lookup
        if asked[-1]["hit_tokens"]:
            between = lookup["end_s"] if asked[-1]["between_steps"] else None
            self._loads[label] = [_load(label, rank, forwards, between) for rank in sorted({one["rank"] for one in forwards})]


def _load(label: str, rank: int, forwards: list[dict[str, Any]], between_s: float | None) -> dict[str, Any]:
    """As our connector records a load, as far as it shows from outside: when the forward waited, not what was fetched.

    ``between_s``: when a load between two steps may have begun; all that passed until the forward was waiting for it.
    """
    own = [one for one in forwards if one["rank"] == rank]
    spans = [span for one in own for span in one["spans"]]
    before = 0.0 if between_s is None else max(own[0]["start_s"] - between_s, 0.0)
    if before:
        spans.insert(0, ["wait", -1, between_s, own[0]["start_s"]])
    return {
        "label": label,
        "rank": rank,
        "start_s": None,
        "end_s": None,
        "between_s": before,
        "stall_s": sum(end - start for kind, _, start, end in spans if kind == "wait"),
        "spans": [[*span, None, None] for span in spans],
        "proof": None,
    }
