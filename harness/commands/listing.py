"""``ttft list``: what can be named."""

from typing import Annotated

import typer

from harness.commands.terminal import console


def list_(kind: Annotated[str, typer.Argument(help="engines, peers, stores, workloads, experiments or settings")]) -> None:
    """List what can be named, with options and defaults."""
    from harness.catalogue import catalogue

    for item in catalogue(kind):
        console().print(item, markup=False)
