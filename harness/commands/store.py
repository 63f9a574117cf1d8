"""``ttft store``: check a store, and measure it, before an engine is measured on it."""

from collections import Counter
from typing import Annotated

import typer

from harness.commands.measuring import INTERRUPTED, end_as_by_ctrl_c
from harness.commands.store_bench import bench
from harness.commands.terminal import console
from harness.core.errors import StoreError
from harness.core.renamed import store_note

HELP = "Check and measure a store of your own."
WORDS = (("ok", "ok"), ("NO", "NO"), ("-", "not applicable"))
store = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)
store.command(short_help="Measure latency and bandwidth of a store")(bench)


@store.callback()
def _group() -> None:
    """Check and measure a store of your own."""


@store.command(short_help="Check that a store keeps its contract")
def check(url: Annotated[str, typer.Argument(help="store URL, e.g. redis://127.0.0.1:6379/0")]) -> None:
    """Check that a store keeps its contract, with objects of its own that it deletes again.

    Exit 0 if it does, 2 if it does not or cannot be used.
    """
    from harness.stores._checks import CHECKS, examine, fresh_prefix
    from harness.stores.base import open_store

    end_as_by_ctrl_c()
    terminal, prefix = console(), fresh_prefix("check")
    outcomes = []
    with open_store(url) as opened:
        terminal.print(f"Checking {opened.url}, with keys that begin with {prefix}", markup=False, soft_wrap=True)
        for note in filter(None, (store_note(url), *opened.notes)):
            terminal.print(f"  {note}", markup=False, soft_wrap=True)
        try:
            for outcome in examine(opened, url, prefix):
                outcomes.append(outcome)
                reason = f": {outcome.reason}" if outcome.reason else ""
                terminal.print(f"{outcome.verdict:<3} {outcome.name}{reason}", markup=False, soft_wrap=True)
        except KeyboardInterrupt:
            terminal.print("Interrupted; what was written is deleted.")
            raise typer.Exit(INTERRUPTED) from None
    counts = Counter[str](outcome.verdict for outcome in outcomes)
    told = ", ".join(f"{counts[verdict]} {word}" for verdict, word in WORDS if counts[verdict])
    terminal.print(f"{len(CHECKS)} checks: {told}")
    if counts["NO"]:
        names = "; ".join(outcome.name for outcome in outcomes if outcome.verdict == "NO")
        raise StoreError(f"{opened.url} does not keep its contract (harness/stores/base.py), {counts['NO']} checks say: {names}")
