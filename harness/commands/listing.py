"""``ttft list``: what can be named on the command line, as tables."""

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from harness.commands.terminal import console

if TYPE_CHECKING:
    from harness.core.options import Options

KINDS = ("engines", "peers", "stores", "workloads", "experiments", "settings")


def catalogue(kind: str) -> Iterator[Table | str]:
    """Tables, and lines of plain text, for all names of a kind. Raises UsageError for an unknown kind."""
    from harness.connector.peers import PEERS
    from harness.core.errors import known
    from harness.engines import ENGINES
    from harness.experiment.settings import Experiment
    from harness.stores import STORES
    from harness.workloads import WORKLOADS

    registries = {"engines": ENGINES, "peers": PEERS, "stores": STORES, "workloads": WORKLOADS}
    if kind in registries:
        registry = registries[kind]
        for name, cls in sorted(registry.all().items()):  # type: ignore[attr-defined]
            yield from _options(name, inspect.getdoc(cls) or "", cls.Options)
    elif kind == "experiments":
        yield _experiments()
    elif kind == "settings":
        yield from _options("settings", "Keys of an experiment's TOML file, and of --set.", Experiment)
    else:
        raise known("kind of list", kind, list(KINDS))


def _options(name: str, text: str, options: "type[Options]") -> Iterator[Table | str]:
    from harness.core.options import describe_options

    yield f"{name}: {text.splitlines()[0]}"
    table = Table(box=None, pad_edge=False)
    for column in ("option", "default", "meaning"):
        table.add_column(column, overflow="fold")
    for option, default, meaning in describe_options(options):
        table.add_row(Text(option), Text(default), Text(meaning))
    if not options.model_fields:
        table.add_row("(none)", "", "")
    yield table
    yield ""


def _experiments() -> Table:
    from harness.experiment.settings import named_experiments, read_experiment

    table = Table(box=None, pad_edge=False)
    for column in ("experiment", "question"):
        table.add_column(column, overflow="fold")
    for name in sorted(named_experiments()):
        table.add_row(Text(name), Text(str(read_experiment(name).get("question", ""))))
    return table


def list_(kind: Annotated[str, typer.Argument(help="engines, peers, stores, workloads, experiments or settings")]) -> None:
    """List what can be named, with options and defaults."""
    for item in catalogue(kind):
        console().print(item, markup=False)
