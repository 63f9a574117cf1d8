"""``ttft store bench``: measure a store by itself."""

import contextlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.measuring import INTERRUPTED, command_line, end_as_by_ctrl_c, new_folder
from harness.commands.options import Json
from harness.commands.terminal import console, finite, only_json
from harness.core.errors import ResultsError, UsageError
from harness.core.renamed import store_note

if TYPE_CHECKING:
    from rich.console import Console

    from harness.stores._bench.conduct import LongTable
    from harness.stores._bench.settings import BenchSettings


def bench(
    url: Annotated[str, typer.Argument(help="store URL, e.g. redis://127.0.0.1:6379/0")],
    sizes: Annotated[str | None, typer.Option(help="object sizes [default: 4KiB,64KiB,512KiB,4MiB]")] = None,
    threads: Annotated[str | None, typer.Option(help="numbers of threads with blocking reads [default: 1,2,4,8]")] = None,
    loops: Annotated[str | None, typer.Option(help="event loops x reads in flight of each [default: 1x1,1x8,2x4,4x2]")] = None,
    batches: Annotated[str | None, typer.Option(help="keys of a batched call [default: 2,8,32]")] = None,
    rounds: Annotated[int | None, typer.Option(min=2, max=1000, help="how often each cell is measured [default: 9]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the order of the cells and of the bytes")] = 0,
    budget: Annotated[str, typer.Option(help="in total, such as 90s or 5m; fewer rounds if it is short")] = "2m",
    limit: Annotated[bool, typer.Option(help="measure the physical limit beside it: fio, or a bare socket")] = True,
    quick: Annotated[bool, typer.Option("--quick", help="fewer sizes, threads, loops, batches and rounds")] = False,
    out: Annotated[
        Path | None, typer.Option(help="folder for bench.csv, bench.json and the picture [default: in results/]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a store's latency and bandwidth over object size, threads, event loops and batch size.

    Reads what it wrote itself, and deletes it again.
    """
    from harness import gate
    from harness.stores import _bench as storebench
    from harness.stores.base import open_store

    settings = (storebench.QUICK if quick else storebench.USUAL).with_given(
        sizes=storebench.parse_sizes("--sizes", sizes) if sizes is not None else None,
        threads=storebench.parse_numbers("--threads", threads) if threads is not None else None,
        loops=storebench.parse_loops("--loops", loops) if loops is not None else None,
        batches=storebench.parse_numbers("--batches", batches) if batches is not None else None,
        rounds=rounds,
        seed=seed,
    )
    need = storebench.needed(settings)
    allowed = gate.Budget(gate.parse_duration(budget))
    folder = new_folder(out, "store-bench")

    end_as_by_ctrl_c()
    with contextlib.ExitStack() as stack:
        answer = stack.enter_context(only_json(as_json))
        terminal = console()

        def tell(text: str) -> None:
            terminal.print(f"  {text}", markup=False, soft_wrap=True)

        opened = stack.enter_context(open_store(url))
        table = stack.enter_context(contextlib.closing(storebench.LongTable(folder)))
        terminal.print(f"Measuring {opened.url} into {folder}", markup=False, soft_wrap=True)
        if note := store_note(url):
            tell(note)
        tell(f"{need.stored / 2**20:,.0f} MiB will be written, and deleted at the end")
        try:
            storebench.conduct(opened, url, settings, limit, table, allowed, tell)
            interrupted = False
        except KeyboardInterrupt:
            interrupted = allowed.left > 0
            if len(table.rounds) < storebench.LEAST:
                _nothing_measured(interrupted, budget)
        answer(_publish(opened.url, settings, table, terminal))
        if interrupted:
            terminal.print("Interrupted; what was written is deleted.")
            raise typer.Exit(INTERRUPTED)


def _nothing_measured(interrupted: bool, budget: str) -> None:
    if interrupted:
        console().print("Interrupted before two rounds were measured; what was written is deleted.")
        raise typer.Exit(INTERRUPTED)
    raise UsageError(f"--budget {budget} was over before two rounds were measured; give more, or fewer cells (--quick, --sizes)")


def _publish(shown: str, settings: "BenchSettings", table: "LongTable", terminal: "Console") -> dict[str, Any]:
    """The tables into the terminal; bench.json, which is returned, and the picture beside bench.csv."""
    from harness.experiment.record import machine, versions
    from harness.reporting.figures.store_bench import draw_bench
    from harness.stores import _bench as storebench
    from harness.stores._bench import tables

    summary = storebench.Summary(table.rounds)
    fit = storebench.fit_link({size: summary.seconds_a_key(storebench.Cell("read", size)) for size in settings.sizes})
    said = [*storebench.notes(summary.n, settings.rounds), *table.notes]
    terminal.print()
    terminal.print(tables.rates_table(summary, table.limit))
    if (batches := tables.batches_table(summary)) is not None:
        terminal.print()
        terminal.print(batches)
    terminal.print()
    for line in tables.lines(summary, fit, said):
        terminal.print(line, markup=False, soft_wrap=True)
    folder = table.file.parent
    cells = []
    for cell in sorted(summary.cells, key=lambda cell: cell.text):
        rate = None if cell.action == "exists" else asdict(summary.bytes_per_s(cell))
        cells.append({**asdict(cell), "call_s": asdict(summary.call_s(cell)), "bytes_per_s": rate})
    meta = {
        "schema": 1,
        "command": command_line(),
        "store": shown,
        "settings": asdict(settings),
        "rounds": summary.n,
        "limit": table.limit,
        "cells": cells,
        "fit": asdict(fit) if fit else None,
        "notes": said,
        "machine": machine(),
        "versions": versions(),
    }
    meta = {key: finite(value) for key, value in meta.items()}
    try:
        (folder / "bench.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ResultsError(f"{folder / 'bench.json'} cannot be written: {error.strerror}; make room") from error
    draw_bench(summary, fit, shown, table.limit, folder)
    terminal.print(f"Wrote bench.csv, bench.json, bench.png and bench.svg into {folder}", markup=False, soft_wrap=True)
    return meta
