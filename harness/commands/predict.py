"""``ttft predict``: which arm the recurrence recommends, before anything is measured."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.options import Json
from harness.commands.predict_given import Given, number, of_options, of_run
from harness.commands.terminal import console, only_json
from harness.core.csv_cells import csv_of
from harness.core.errors import ResultsError, UsageError

if TYPE_CHECKING:
    from harness.reporting.forecast import Advice, Basis

PREFIXES = "1024,2048,4096,8192,16384,32768"
SHOWN = 8
"""How many prefix lengths of a measurement are taken if none are given."""


def predict(
    run: Annotated[
        Path | None, typer.Option("--from", help="a results folder with a floor arm: its store, geometry and compute")
    ] = None,
    latency_ms: Annotated[float | None, typer.Option(help="a store call's round trip, milliseconds")] = None,
    stream_mb_s: Annotated[float | None, typer.Option(help="MB (1e6 bytes) per second of one call")] = None,
    stream_mbps: Annotated[float | None, typer.Option(hidden=True)] = None,
    total_mb_s: Annotated[float | None, typer.Option(help="MB per second of all calls together [default: no bound]")] = None,
    total_mbps: Annotated[float | None, typer.Option(hidden=True)] = None,
    model: Annotated[str | None, typer.Option(help="builtin, a folder or a hub name, for layers and KV bytes")] = None,
    dtype: Annotated[str, typer.Option(help="of the KV, with --model")] = "bfloat16",
    layers: Annotated[int | None, typer.Option(help="in place of --model: layers that hold KV")] = None,
    layer_kib: Annotated[
        float | None,
        typer.Option(
            help="in place of --model: KiB of KV per token and layer, 2 x KV heads x head size x bytes of a number / 1024"
        ),
    ] = None,
    chunk_tokens: Annotated[int | None, typer.Option(help="tokens per chunk [default: 256, or that of --from]")] = None,
    compute_ms: Annotated[
        str | None,
        typer.Option(help="the forward over the suffix, prefix in place: milliseconds, or TOKENS:MS,... by prefix length"),
    ] = None,
    overhead_ms: Annotated[
        float | None, typer.Option(help="TTFT outside of load and forward [default: 0, or that of --from]")
    ] = None,
    suffix: Annotated[int | None, typer.Option(help="tokens behind the prefix, for recomputing [default: 32]")] = None,
    recompute_ms_per_token: Annotated[float | None, typer.Option(help="computing a token of prefix or suffix")] = None,
    prefix: Annotated[
        str | None, typer.Option(help=f"prefix lengths in tokens [default: {PREFIXES}, or those of --from]")
    ] = None,
    pools: Annotated[str, typer.Option(help="chunkwise: values of pool to try")] = "0,2,4,8,16,32",
    readers: Annotated[str, typer.Option(help="layerwise: values of readers to try")] = "1,2,4,8,16,32",
    depths: Annotated[str, typer.Option(help="layerwise: values of depth to try; the model's layers at most")] = "2,4,8,1024",
    groups: Annotated[str, typer.Option(help="layerwise: groups to try, such as 6, 1+5+6 or auto, the best ones")] = "1,4,auto",
    batches: Annotated[str, typer.Option(help="both: values of batch to try")] = "1,4",
    margin: Annotated[float, typer.Option(help="leads of up to this many percent count as equal")] = 5.0,
    out: Annotated[Path | None, typer.Option(help="CSV file for every arm at every length")] = None,
    as_json: Json = False,
) -> None:
    """Say which arm the recurrence recommends for a store and a model, over prefix lengths; measures nothing."""
    from harness.reporting import forecast as advice
    from harness.reporting.forecast import wording

    given = Given(
        latency_ms,
        _today("--stream-mb-s", stream_mb_s, "--stream-mbps", stream_mbps),
        _today("--total-mb-s", total_mb_s, "--total-mbps", total_mbps),
        model,
        dtype,
        layers,
        layer_kib,
        chunk_tokens,
        suffix,
        compute_ms,
        overhead_ms,
        recompute_ms_per_token,
    )
    grid = advice.Grid(
        _numbers("--pools", pools),
        _numbers("--readers", readers),
        _numbers("--depths", depths),
        tuple(dict.fromkeys(item.strip() for item in groups.split(","))),
        _numbers("--batches", batches),
    )
    share = number("--margin", margin) / 100
    basis, checks = of_run(run, given) if run else (of_options(given), ())
    lengths = _numbers("--prefix", prefix) if prefix is not None else _lengths(basis) if run else _numbers("--prefix", PREFIXES)
    found = advice.advise(basis, grid, lengths, advice.smallest_lead(share, checks))
    said = wording.sentences(basis, found, share, checks)
    with only_json(as_json) as answer:
        terminal = console()
        if as_json:
            answer(_plain(basis, found, said))
        else:
            terminal.print(wording.started_from(basis), markup=False, soft_wrap=True)
            terminal.print(wording.table(found).to_terminal())
            for text in said:
                terminal.print(text, markup=False, soft_wrap=True)
        if out is not None:
            _write(found, out)


def _plain(basis: "Basis", found: "Sequence[Advice]", said: Sequence[str]) -> dict[str, Any]:
    """The answer as JSON: every arm at every length, as in the CSV file, and the sentences."""
    from harness.reporting.forecast import long_table

    rows = json.loads(long_table(found).to_json(orient="records"))
    link = basis.setup.link
    return {
        "schema": 1,
        "store": {
            "latency_s": link.latency_s,
            "stream_bytes_per_s": link.stream_bytes_per_s,
            "total_bytes_per_s": link.total_bytes_per_s,
        },
        "model": {"layers": basis.setup.layers, "layer_bytes": basis.setup.layer_bytes, "chunk_tokens": basis.setup.chunk_tokens},
        "recommended": [row for row in rows if row["recommended"]],
        "arms": rows,
        "said": list(said),
    }


def _today(name: str, value: float | None, before: str, old: float | None) -> float | None:
    """The value of an option, also under the name that it had before. Raises UsageError if both are given."""
    if old is None:
        return value
    if value is not None:
        raise UsageError(f"{before} is the former name of {name}; remove it")
    typer.echo(f"{before} is called {name} now, since it counts megabytes a second", err=True)
    return old


def _lengths(basis: "Basis") -> Sequence[int]:
    """Those at which the measurement's compute is known, the ends and some between."""
    known = [tokens for tokens, _ in basis.compute.points]
    places = {round(place * (len(known) - 1) / (SHOWN - 1)) for place in range(SHOWN)}
    return [known[place] for place in sorted(places)]


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(item) for item in text.split(",")))
    except ValueError:
        raise UsageError(f"{name} '{text}' is invalid; write whole numbers with commas between, like 1,2,4") from None


def _write(found: "Sequence[Advice]", file: Path) -> None:
    from harness.reporting.forecast import long_table

    try:
        file.write_text(csv_of(long_table(found)), encoding="utf-8", newline="")
    except OSError as error:
        raise ResultsError(f"{file} cannot be written: {error.strerror or error}; give another with --out") from error
    console().print(f"Wrote {file}", markup=False, soft_wrap=True)
