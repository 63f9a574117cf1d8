"""From one request's outcome and log to its row in requests.csv, and why a row does not count. Pure."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import xxhash

from harness.replay.outcome import Outcome


def tokens_digest(tokens: Sequence[int]) -> str:
    """16 hexadecimal digits over token ids."""
    return xxhash.xxh3_64_hexdigest(",".join(map(str, tokens)).encode())


def kv_digest(loads: Sequence[Mapping[str, Any]]) -> str:
    """16 hexadecimal digits over all sampled blocks of a request; empty if none was sampled.

    Without the keys: they hold the namespace of one measurement, and a resumed or second one has another.
    """
    proofs = [(layer, digest) for load in loads for _, layer, digest in load["proof"] or []]
    return xxhash.xxh3_64_hexdigest(repr(proofs).encode()) if proofs else ""


def hit_reason(expected: int, hit: int | None) -> str:
    """Empty if the hit is what the workload implies."""
    if hit == expected:
        return ""
    return f"hit {hit} tokens, but the workload implies {expected}"


def load_reason(
    loads: Sequence[Mapping[str, Any]],
    expected_hit: int,
    moves_kv: bool,
    saved: Mapping[str, Sequence[int]],
    keys: Collection[str] | None = None,
    behind: Collection[str] = (),
) -> str:
    """Empty if the load is proven: every sampled block holds what was saved under its key.

    ``keys``: of the chunks that the hit consists of, all ranks; if given, each has to be sampled, and no other.
    ``behind``: those of them that vLLM may have freed by then, behind a sliding window; they may be sampled or not.
    """
    if not moves_kv or not expected_hit:
        return ""
    if not loads:
        return "the connector recorded no load"
    failed = sum(load["failed_blocks"] for load in loads)
    if failed:
        return f"{failed} blocks could not be loaded and were computed"
    for load in loads:
        if not load["proof"]:
            return "no KV was sampled, so the load is not proven"
        for key, layer, digest in load["proof"]:
            if key not in saved:
                return f"chunk {key} was loaded, but this experiment never saved it"
            if not 0 <= layer < len(saved[key]) or saved[key][layer] != digest:
                return f"the KV in the paged cache is not what was saved: layer {layer} of chunk {key}"
    sampled = {key for load in loads for key, _, _ in load["proof"]}
    if keys is not None and not set(keys) - set(behind) <= sampled <= set(keys):
        return f"{len(sampled)} chunks were loaded and sampled, not the {len(set(keys))} of the hit"
    return ""


class TokenWitness:
    """The tokens that the loading arms gave for each prompt and hit; the first answer is the one to equal.

    With another hit other tokens are computed, and in bfloat16 that alone may change the answer.
    """

    def __init__(self, earlier: Mapping[tuple[str, int], tuple[str, str]] | None = None) -> None:
        """``earlier``: digest and arm by prompt and tokens hit, from the runs before an interruption."""
        self._first = dict(earlier or {})

    def reason(self, prompt: str, hit: int, arm: str, digest: str) -> str:
        """Empty if this is the first answer for the prompt with this hit, or equals the first."""
        first, by = self._first.setdefault((prompt, hit), (digest, arm))
        return "" if first == digest else f"other tokens than {by} gave for the same prompt"


def timings(
    outcome: Outcome, lookup: Mapping[str, Any] | None, loads: Sequence[Mapping[str, Any]], logged: bool = True
) -> dict[str, object]:
    """The time columns, in seconds. Ranks work side by side, so their longest load and stall count.

    Neither ``logged`` nor a lookup: lookups and stalls are not known, so compute is not either.
    """
    lookup_s = lookup["end_s"] - lookup["start_s"] if lookup else None
    moved = [load for load in loads if load["start_s"] is not None]
    stall_s = max((load["stall_s"] for load in loads), default=None)
    queue_s, compute_s = outcome.queue_s, None
    before_s, inside_s = 0.0, (lookup_s or 0.0) + (stall_s or 0.0)
    if lookup and lookup.get("outside"):  # a peer's: vLLM counts the request as queued until its loads are done
        before_s = (lookup_s or 0.0) + lookup["waited_s"]
        inside_s -= before_s
    if queue_s is not None:
        queue_s = max(queue_s - before_s, 0.0)
    if outcome.prefill_s is not None and (logged or lookup):
        compute_s = outcome.prefill_s - inside_s
    return {
        "ttft_s": outcome.first_s - outcome.sent_s if outcome.first_s is not None else None,
        "server_ttft_s": outcome.server_ttft_s,
        "queue_s": queue_s,
        "lookup_s": lookup_s,
        "load_s": max(load["end_s"] for load in moved) - min(load["start_s"] for load in moved) if moved else None,
        "stall_s": stall_s,
        "compute_s": compute_s,
        "tpot_s": sum(outcome.token_gaps_s) / (outcome.output_tokens - 1) if outcome.token_gaps_s else None,
        "itl_max_s": max(outcome.token_gaps_s, default=None),
        "e2e_s": outcome.last_s - outcome.sent_s if outcome.last_s is not None else None,
    }


def counters(loads: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """What the retrieval asked of the store, all ranks together; empty if nothing was loaded, or it is not known."""
    if not loads or "operations" not in loads[0]:
        return {}
    return {name: sum(load[name] for load in loads) for name in ("operations", "keys", "bytes")}


def span_rows(
    run: int, prompt: str, lookup: Mapping[str, Any] | None, loads: Sequence[Mapping[str, Any]]
) -> list[dict[str, object]]:
    """The request's spans as rows of spans.jsonl; of several ranks those of the one whose stall is in the row."""
    rows: list[dict[str, object]] = []
    if lookup:
        rows.append(_span(run, prompt, ["lookup", -1, lookup["start_s"], lookup["end_s"], 0, 0]))
    told = max(loads, key=lambda load: load["stall_s"])["rank"] if loads else None
    for load in loads:
        if load["rank"] == told:
            rows.extend(_span(run, prompt, span) for span in load["spans"])
    return rows


def _span(run: int, prompt: str, span: Sequence[Any]) -> dict[str, object]:
    kind, layer, start_s, end_s, size, keys = span
    return {
        "run": run,
        "request": prompt,
        "layer": layer,
        "kind": kind,
        "start_s": start_s,
        "end_s": end_s,
        "bytes": size,
        "keys": keys,
    }
