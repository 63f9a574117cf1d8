"""``ttft explain``: the bottleneck of each arm, what would change it, and the command that shows it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.terminal import console
from harness.core.errors import known


def explain(
    results: Annotated[Path, typer.Argument(help="a results folder")],
    arm: Annotated[str | None, typer.Option(help="explain this arm only")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print values, times in seconds, in place of sentences")] = False,
) -> None:
    """Name the bottleneck of each arm, what would change it, and the command that shows it; needs no vLLM."""
    from harness.reporting.explain import explain as explained
    from harness.results import load
    from harness.results.evidence import gather

    evidence = gather(load(results))
    found = explained(evidence)
    if arm is not None:
        names = [one.parts.arm.name for one in found]
        if arm not in names:
            raise known(f"arm of {results.name}", arm, names)
        found = [one for one in found if one.parts.arm.name == arm]
    if as_json:
        typer.echo(json.dumps([one.to_json() for one in found], indent=2))
        return
    terminal = console()
    for finding in evidence.findings:
        terminal.print(f"! {finding}", markup=False, style="yellow", soft_wrap=True)
    for one in found:
        what, change, shows = one.sentences
        terminal.print(what, markup=False, style="bold", soft_wrap=True)
        terminal.print(f"  {change}", markup=False, soft_wrap=True)
        terminal.print(f"  {shows}", markup=False, soft_wrap=True)
