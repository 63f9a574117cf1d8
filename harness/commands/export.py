"""``ttft export``: a measurement's numbers to where others keep theirs."""

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.terminal import console


def export(
    run: Annotated[Path, typer.Argument(help="a measurement's folder")],
    to: Annotated[
        str, typer.Option(help="prometheus or llm-d, which are files; pushgateway:URL, mlflow:URI or otel:URL, which are servers")
    ],
    out: Annotated[Path | None, typer.Option(help="folder of the files [default: the measurement's own]")] = None,
    name: Annotated[str, typer.Option(help="the Pushgateway's job, MLflow's experiment, OpenTelemetry's service")] = "ttft",
) -> None:
    """Hand a measurement's numbers to Prometheus, MLflow, OpenTelemetry or llm-d; needs no vLLM."""
    from harness.reporting import exports
    from harness.reporting.summary import summarise
    from harness.results import load
    from harness.results.evidence import gather

    summary = summarise(gather(load(run, spans=False)))
    said = exports.export(summary, to, out or run, name)
    console().print(said, markup=False, soft_wrap=True)
