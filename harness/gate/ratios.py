"""Ratios kept for later: what ``--relative-to`` judges against, on another day or another machine."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harness.core.errors import ResultsError, SchemaMismatch
from harness.stats import Comparison

RATIOS_SCHEMA = "1.0"
_KEPT = ("metric", "base", "candidate", "n_pairs", "n_requests", "smallest_run", "ratio", "alpha", "log_ratios", "warnings")


def ratios_json(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Comparisons as plain values, to be stored and judged against later (``load_ratios`` reads them)."""
    kept = []
    for comparison in comparisons:
        entry = asdict(comparison)
        kept.append({key: entry[key] for key in _KEPT})
    return {"schema": RATIOS_SCHEMA, "ratios": kept}


def load_ratios(raw: object) -> list[Comparison]:
    """What ``ratios_json`` gave. Raises SchemaMismatch for another version, ResultsError for what is none of ours."""
    if not isinstance(raw, Mapping):
        raise ResultsError(f"stored ratios are a JSON object, not a {type(raw).__name__}; store them anew")
    version = str(raw.get("schema", ""))
    if version.partition(".")[0] != RATIOS_SCHEMA.partition(".")[0]:
        raise SchemaMismatch(f"the stored ratios have schema '{version}', this is {RATIOS_SCHEMA}; store them anew")
    try:
        return [_comparison(entry) for entry in raw["ratios"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ResultsError(f"the stored ratios lack a part ({error}); store them anew") from error


def _comparison(entry: Mapping[str, Any]) -> Comparison:
    return Comparison(
        metric=str(entry["metric"]),
        base=str(entry["base"]),
        candidate=str(entry["candidate"]),
        n_pairs=int(entry["n_pairs"]),
        n_requests=int(entry["n_requests"]),
        smallest_run=int(entry["smallest_run"]),
        ratio=float(entry["ratio"]),
        alpha=float(entry["alpha"]),
        low=0.0,
        high=float("inf"),
        p_value=1.0,
        p_greater=1.0,
        p_less=1.0,
        log_ratios=tuple(float(value) for value in entry["log_ratios"]),
        warnings=tuple(str(text) for text in entry["warnings"]),
    )
