"""``ttft workload``: look at a workload before anything is run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from harness.commands.terminal import console

if TYPE_CHECKING:
    from harness.workloads.base import Limits
    from harness.workloads.outline import Outline
    from harness.workloads.summary import WorkloadSummary

NO_LIMIT = 2**31
"""Stands for a model that takes prompts of any length, and for a vocabulary that holds any token."""

workload = typer.Typer(help="Look at a workload before anything is run.", no_args_is_help=True, rich_markup_mode=None)


@workload.callback()
def _group() -> None:
    """Look at a workload before anything is run."""


@workload.command(short_help="Show lengths, reuse, hit rate and arrivals")
def show(
    spec: Annotated[str, typer.Argument(help="workload spec, e.g. mooncake:path=trace.jsonl,scale=0.25")],
    out: Annotated[Path | None, typer.Option(help="folder for the pictures: lengths, reuse and arrivals as PNG")] = None,
    model: Annotated[str | None, typer.Option(help="count as for this model, which may be too short for some prompts")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=2, help="count as for a model with a context of this many tokens")] = None,
    chunk_tokens: Annotated[int, typer.Option(min=1, help="tokens of a chunk in the store; hits are whole chunks")] = 256,
) -> None:
    """Show lengths, reuse, ideal hit rate and arrivals of a workload; needs no vLLM."""
    from harness.core.options import parse_options, split_spec
    from harness.workloads import WORKLOADS
    from harness.workloads.summary import summarise

    name, options = split_spec(spec)
    cls = WORKLOADS.get(name)
    chosen = cls(parse_options(cls.Options, options, f"workload '{name}'"))
    outline = chosen.outline(_limits(model, max_tokens, chunk_tokens))
    summary = summarise(outline, chunk_tokens)
    terminal = console()
    terminal.print(_lengths_table(summary))
    for label, value in [
        *_reuse_lines(summary, chunk_tokens, outline.block_tokens),
        *_arrival_lines(summary),
        *_place_lines(outline),
    ]:
        terminal.print(f"{label:<21}{value}", markup=False, soft_wrap=True)
    for note in summary.notes:
        terminal.print(f"- {note}", markup=False, soft_wrap=True)
    if out is not None:
        from harness.reporting.figures.workload import draw_workload

        files = draw_workload(outline, chunk_tokens, spec, out)
        names = ", ".join(file.name for file in files)
        terminal.print(f"Wrote {len(files)} pictures into {out}: {names}", markup=False, soft_wrap=True)


def _limits(model: str | None, max_tokens: int | None, chunk_tokens: int) -> "Limits":
    from harness.replay import models
    from harness.workloads.base import Limits

    if model is None:
        return Limits(NO_LIMIT, max_tokens or NO_LIMIT, chunk_tokens)
    found = models.resolve(model, models.default_dtype())
    return Limits(found.vocabulary, min(max_tokens or found.max_positions, found.max_positions), chunk_tokens)


def _lengths_table(summary: "WorkloadSummary") -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("tokens", "smallest", "p10", "p50", "p90", "p99", "largest", "mean", "total"):
        table.add_column(column, justify="left" if column == "tokens" else "right")
    rows = {"prompt": summary.prompts, "output in the source": summary.recorded, "output asked for": summary.asked}
    for label, lengths in rows.items():
        if lengths is None:
            continue
        numbers = (lengths.smallest, lengths.p10, lengths.p50, lengths.p90, lengths.p99, lengths.largest)
        cells = [f"{value:,}" for value in numbers] + [f"{lengths.mean:,.1f}", f"{lengths.total:,}"]
        table.add_row(label, *map(Text, cells))
    return table


def _reuse_lines(summary: "WorkloadSummary", chunk_tokens: int, block_tokens: int) -> list[tuple[str, str]]:
    reuse = summary.reuse
    hitting = f"{reuse.prompts:,} of {summary.requests:,}"
    if reuse.prompts:
        hitting += f", the median of these for {reuse.median:.1%} of its tokens"
    lines = [
        ("ideal hit rate", f"{reuse.tokens:.1%} of tokens; {reuse.chunks:.1%} in whole chunks of {chunk_tokens:,}"),
        ("prompts that hit", hitting),
    ]
    if reuse.blocks is not None:
        lines[0] = (lines[0][0], f"{lines[0][1]}; {reuse.blocks:.1%} of the trace's blocks ({block_tokens:,} tokens each)")
    return lines


def _place_lines(outline: "Outline") -> list[tuple[str, str]]:
    """Where the requests lie in the trace, as ``start_s`` and ``end_s`` count."""
    if not outline.begins:
        return []
    first, last = (float(outline.arrival_s[at]) + outline.start_s for at in (0, -1))
    return [("place in the trace", f"{first:,.6g} s to {last:,.6g} s, counted from its first request ({outline.begins})")]


def _arrival_lines(summary: "WorkloadSummary") -> list[tuple[str, str]]:
    arrivals = summary.arrivals
    if arrivals is None:
        return [("arrivals", "no times")]
    same = f"; {arrivals.same:.0%} of them are 0" if arrivals.same else ""
    rate = f"{arrivals.rate:,.3g} per second over {arrivals.span_s:,.1f} s"
    return [
        ("arrivals", f"{rate}, at most {arrivals.peak:,} within one second"),
        (
            "gaps",
            f"vary by {arrivals.variation:.2f} of their mean (Poisson: 1); gamma burstiness {arrivals.burstiness:.3g}{same}",
        ),
    ]
