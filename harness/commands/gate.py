"""``ttft gate``: judge stored results."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import UsageError


def gate(
    run: Annotated[Path, typer.Argument(help="a run's folder; with a second one, the base")],
    other: Annotated[Path | None, typer.Argument(help="a second run's folder, of the same environment: the candidate")] = None,
    margin: Annotated[
        list[str] | None, typer.Option("--max", help="METRIC:PERCENT that it may be slower by, e.g. p50:5%")
    ] = None,
    candidate: Annotated[str | None, typer.Option(help="the arm to judge")] = None,
    base: Annotated[str | None, typer.Option(help="the arm it is held against")] = None,
    relative_to: Annotated[
        str | None, typer.Option(help="with two runs: a control arm that both have, so that machines may differ")
    ] = None,
    alpha: Annotated[float, typer.Option(help="error rate of each bound")] = 0.05,
    out: Annotated[Path | None, typer.Option(help="folder for verdict.json, verdict.md and junit.xml")] = None,
) -> None:
    """Judge stored results: PASS (exit 0), FAIL (1), no verdict possible (2), INCONCLUSIVE (3)."""
    from harness import gate as gates
    from harness.results import load

    margins = gates.parse_margins(margin or [])
    if other is not None:
        verdict = gates.judge_runs(load(run), load(other), margins, base, candidate, alpha, relative_to)
    elif candidate is None or base is None:
        raise UsageError("to judge one run name its arms: --candidate ARM --base ARM")
    elif relative_to is not None:
        raise UsageError("--relative-to needs two runs; give the candidate's folder as well")
    else:
        verdict = gates.judge_run(load(run), candidate, base, margins, alpha)
    typer.echo(gates.markdown(verdict))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in gates.annotations(verdict):
            typer.echo(line)
    if out is not None:
        files = {
            "verdict.json": json.dumps(verdict.to_json(), indent=2) + "\n",
            "verdict.md": gates.markdown(verdict),
            "junit.xml": gates.junit(verdict),
        }
        try:
            out.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (out / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"the verdict cannot be written to {out}: {error.strerror}; give another folder with --out"
            ) from error
    raise typer.Exit(verdict.exit_code)
