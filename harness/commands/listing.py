"""``ttft list``: what can be named on the command line, as tables."""

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from harness.commands.options import Json
from harness.commands.terminal import console, only_json

if TYPE_CHECKING:
    from harness.core.options import Options

KINDS = ("engines", "peers", "stores", "workloads", "experiments", "settings")


def catalogue(kind: str) -> Iterator[Table | str]:
    """Tables, and lines of plain text, for all names of a kind. Raises UsageError for an unknown kind."""
    if kind == "experiments":
        yield _experiments()
        return
    for name, text, options in _described(kind):
        yield from _options(name, text, options)


def _described(kind: str) -> "Iterator[tuple[str, str, type[Options]]]":
    """Name, description and options of each; of settings, all of them under one name."""
    from harness.connector.peers import PEERS
    from harness.core.errors import known
    from harness.engines import ENGINES
    from harness.experiment.settings import Experiment
    from harness.stores import STORES
    from harness.workloads import WORKLOADS

    registries = {"engines": ENGINES, "peers": PEERS, "stores": STORES, "workloads": WORKLOADS}
    if kind in registries:
        for name, cls in sorted(registries[kind].all().items()):  # type: ignore[attr-defined]
            yield name, inspect.getdoc(cls) or "", cls.Options
    elif kind == "settings":
        yield "settings", "Keys of an experiment's TOML file, and of --set.", Experiment
    else:
        raise known("kind of list", kind, list(KINDS))


def _options(name: str, text: str, options: "type[Options]") -> Iterator[Table | str]:
    from harness.core.options import describe_options

    yield f"{name}: {_summary(text)}"
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


def entries(kind: str) -> list[dict[str, Any]]:
    """The same as plain values. Raises UsageError for an unknown kind."""
    if kind == "experiments":
        from harness.experiment.settings import named_experiments, read_experiment

        questions = {name: str(read_experiment(name).get("question", "")) for name in sorted(named_experiments())}
        return [{"name": name, "summary": question, "options": []} for name, question in questions.items()]
    found = []
    for name, text, options in _described(kind):
        found.append({"name": name, "summary": _summary(text), "options": _plain(options)})
    return found


def _summary(text: str) -> str:
    """The first sentence of a docstring, for people who don't read code."""
    return text.splitlines()[0].replace("``", "")


def _plain(options: "type[Options]") -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "required": info.is_required(),
            "default": None if info.is_required() else info.default,
            "meaning": info.description or "",
        }
        for name, info in options.model_fields.items()
    ]


def list_(
    kind: Annotated[
        str | None,
        typer.Argument(help="engines, peers, stores, workloads, experiments or settings", autocompletion=lambda: list(KINDS)),
    ] = None,
    as_json: Json = False,
    json_schema: Annotated[
        bool, typer.Option("--json-schema", help="of settings: the JSON Schema of an experiment's file, for editors and CI")
    ] = False,
) -> None:
    """List what can be named, with options and defaults."""
    from harness.core.errors import UsageError
    from harness.experiment.settings import json_schema as schema

    if kind is None:
        raise UsageError(f"name what to list: {', '.join(KINDS)}; for example ttft list stores")
    with only_json(as_json or json_schema) as answer:
        if json_schema:
            if kind != "settings":
                raise UsageError(f"only settings have a JSON Schema, not {kind}; write ttft list settings --json-schema")
            answer(schema())
            return
        if as_json:
            answer({"schema": 1, "kind": kind, "entries": entries(kind)})
            return
        for item in catalogue(kind):
            console().print(item, markup=False)
