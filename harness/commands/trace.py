"""``ttft trace``: a run's spans for chrome://tracing or Perfetto."""

from pathlib import Path
from typing import Annotated

import typer


def trace(
    run: Annotated[Path, typer.Argument(help="a run's folder")],
    out: Annotated[Path | None, typer.Option(help="file to write [default: trace.json in the run's folder]")] = None,
) -> None:
    """Export the spans of a run as a Chrome/Perfetto trace: engine, store and vLLM's steps on one clock."""
    from harness.results import load
    from harness.results.evidence import gather
    from harness.results.export import write

    file = out or run / "trace.json"
    spans = write(gather(load(run)), file)
    typer.echo(f"Wrote {spans:,} spans to {file}; open it in chrome://tracing or ui.perfetto.dev")
