"""A measurement's numbers for the tools where others keep theirs. The numbers are those of the report, void runs left out.

``numbers`` says what there is, once for all; each other file hands it to one tool.
"""

from collections.abc import Callable
from pathlib import Path

from harness.core.errors import UsageError, known
from harness.reporting.exports.llm_d import write_llm_d
from harness.reporting.exports.mlflow import log_mlflow
from harness.reporting.exports.otel import send_otel
from harness.reporting.exports.prometheus import push, write_textfile
from harness.reporting.summary import Summary

FILES: dict[str, Callable[[Summary, Path], list[Path]]] = {"prometheus": write_textfile, "llm-d": write_llm_d}
"""Destinations that are files in a folder."""
PLACES: dict[str, Callable[[Summary, str, str], str]] = {"pushgateway": push, "mlflow": log_mlflow, "otel": send_otel}
"""Destinations that are somewhere else: from the address and a name for the job, to what was done there."""


def export(summary: Summary, to: str, folder: Path, name: str) -> str:
    """Hand the numbers to ``to``; returns one sentence. ``name``: of the job, experiment or service there.

    Raises UsageError for a destination that is unknown or lacks its address, SetupError if a package is missing, and
    RunError or ResultsError if the numbers do not arrive.
    """
    kind, colon, address = to.partition(":")
    if kind in FILES:
        if colon:
            raise UsageError(f"--to {kind} writes files; give their folder with --out, not behind a colon")
        return f"Wrote {', '.join(map(str, FILES[kind](summary, folder)))}"
    if kind not in PLACES:
        raise known("destination", kind, [*FILES, *(f"{place}:ADDRESS" for place in PLACES)])
    if not address:
        raise UsageError(f"--to {kind} needs an address, as --to {kind}:http://127.0.0.1:9091")
    return PLACES[kind](summary, address, name)


__all__ = ["FILES", "PLACES", "export"]
