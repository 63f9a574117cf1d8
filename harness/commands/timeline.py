"""``ttft timeline``: the spans of a measurement for chrome://tracing or Perfetto."""

from pathlib import Path
from typing import Annotated

import typer


def timeline(
    run: Annotated[Path, typer.Argument(help="a results folder")],
    out: Annotated[Path | None, typer.Option(help="file to write [default: timeline.json in the results folder]")] = None,
) -> None:
    """Export all spans as a timeline in Chrome's and Perfetto's format: engine, store and vLLM's steps on one clock."""
    from harness.results import load
    from harness.results.evidence import gather
    from harness.results.export import write

    file = out or run / "timeline.json"
    spans = write(gather(load(run)), file)
    typer.echo(f"Wrote {spans:,} spans to {file}; open it in chrome://tracing or ui.perfetto.dev")
