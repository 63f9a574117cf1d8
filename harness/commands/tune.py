"""``ttft tune``: from a store and a model to a recommended arm, as vLLM's command line takes it."""

import contextlib
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.measuring import (
    INTERRUPTED,
    command_line,
    end_as_by_ctrl_c,
    has_requests,
    measured,
    new_folder,
    refuse_a_budget_that_ends_before_vllm_starts,
    show_if_any,
)
from harness.commands.options import DryRun, Dtype, Model, Settings
from harness.commands.preflight import preflight, print_plan
from harness.commands.terminal import console
from harness.core.errors import ResultsError, UsageError, VoidRuns
from harness.core.text import redact

if TYPE_CHECKING:
    from harness.core.recurrence import Link
    from harness.experiment.plan import Setting
    from harness.gate import Budget
    from harness.reporting.choice import Choice
    from harness.stores._bench import BenchSettings

PAIRS = 40
"""Rounds at most; the budget ends most of them earlier."""
BENCH_SHARE, BENCH_MOST_S, BENCH_LEAST_S = 0.1, 60.0, 5.0
"""Of the budget for measuring the store by itself, in seconds."""
BENCH_ROUNDS = 6
LENGTHS = 4
"""Prefix lengths of the workload that are looked at, the shortest and the longest among them."""
QUESTION = "Which arm suits this store and this model? (ttft tune)"


def tune(
    store: Annotated[str, typer.Option(help="URL of the store, e.g. redis://127.0.0.1:6379/0")],
    model: Model = None,
    budget: Annotated[str, typer.Option(help="for all of it, such as 10m or 1h30m")] = "10m",
    workload: Annotated[str | None, typer.Option(help="workload spec, as near to your requests as can be")] = None,
    dtype: Dtype = None,
    setting: Settings = None,
    out: Annotated[Path | None, typer.Option(help="results folder; must be new [default: results/<time>-tune]")] = None,
    dry_run: DryRun = False,
) -> None:
    """Recommend an arm: measure the store, predict, measure the best few arms, and print vLLM's --kv-transfer-config."""
    from harness import gate as gates
    from harness.experiment.dotted import experiment_of
    from harness.experiment.plan import settle
    from harness.experiment.settings import given_settings, read_experiment

    given = given_settings(setting or [])
    for name in ("arms", "bounds", "target"):
        if name in given:
            raise UsageError(f"--set {name} is set by ttft tune itself; compare arms of your own with ttft compare")
    flags = {"store": store, "model": model, "workload": workload, "dtype": dtype}
    # Each request's KV is proven anyway; the correctness pass would take a start of vLLM from the budget.
    own = {"question": QUESTION, "bounds": True, "pairs": PAIRS, "correctness_prompts": 0}
    written = {**read_experiment("default"), **own}
    settled = settle(experiment_of(written, flags, given))
    allowed = gates.parse_duration(budget)
    refuse_a_budget_that_ends_before_vllm_starts(settled, budget, allowed)
    folder = new_folder(out, "tune")
    if dry_run:
        _print_plan(settled, budget, allowed, folder)
        return
    _tune(settled, folder, budget, gates.Budget(allowed))


def _tune(settled: "Setting", folder: Path, text: str, budget: "Budget") -> None:
    terminal = console()
    link = _link(settled, folder / "store", budget.seconds)
    arms = _shortlist(settled, link)
    for line in (f"Store: {_told(link)}.", f"To be measured: {', '.join(arms)}, and the bounds."):
        terminal.print(line, markup=False, soft_wrap=True)
    _measure(_with_arms(settled, arms), folder, text, budget)
    _recommend(settled, folder, arms, link)


def _print_plan(settled: "Setting", budget: str, allowed: float, folder: Path) -> None:
    sizes = ", ".join(f"{size:,}" for size in _bench_settings(settled).sizes)
    lines = [
        f"folder    {folder}",
        f"model     {settled.model.name} in {settled.dtype}, up to {settled.max_model_len} tokens",
        f"store     up to {_bench_s(allowed):.0f} s by itself: objects of {sizes} bytes",
        f"prefixes  {', '.join(f'{tokens:,}' for tokens in _prefixes(settled))} tokens, in {len(settled.data.prompts)} prompts",
        f"budget    {budget} in all: two to four arms and the bounds in turns, at most {settled.experiment.pairs} rounds",
        *preflight(settled, folder, timed=False),  # the budget says that
        *settled.notes,
    ]
    print_plan(lines)


def _with_arms(settled: "Setting", arms: list[str]) -> "Setting":
    from harness.experiment.plan import settle

    return settle(settled.experiment.model_copy(update={"arms": arms}))


def _bench_s(allowed: float) -> float:
    return min(max(BENCH_SHARE * allowed, BENCH_LEAST_S), BENCH_MOST_S)


def _bench_settings(settled: "Setting") -> "BenchSettings":
    """A layer of a chunk, a whole chunk, and a size between: what the engines read."""
    from harness.replay.kv_shape import kv_shape
    from harness.stores._bench import BenchSettings

    try:
        shape = kv_shape(settled.experiment.model, settled.dtype)
    except UsageError:  # it names options of ttft predict
        what = f"the KV of model {settled.model.name} cannot be told from its configuration, so nothing can be predicted"
        raise UsageError(f"{what}; compare arms of your own with ttft compare") from None
    layer = shape.token_bytes * settled.experiment.chunk_tokens
    sizes = (layer, layer * max(round(shape.layers**0.5), 2), layer * max(shape.layers, 3))
    return BenchSettings(sizes, threads=(1, 8), loops=(), batches=(), rounds=BENCH_ROUNDS)


def _link(settled: "Setting", folder: Path, allowed: float) -> "Link":
    """The store by itself: round trip, one stream's rate, and that of all together."""
    from harness.core.budget import CLEANING_UP_S
    from harness.core.recurrence import Link
    from harness.gate import Budget
    from harness.stores import _bench as storebench
    from harness.stores.base import open_store

    settings, url = _bench_settings(settled), settled.experiment.store
    storebench.needed(settings)
    end_as_by_ctrl_c()
    terminal = console()

    def tell(text: str) -> None:
        terminal.print(f"  {text}", markup=False, soft_wrap=True)

    with open_store(url) as opened, contextlib.closing(storebench.LongTable(folder)) as table:
        terminal.print(f"Measuring {opened.url} by itself into {folder}", markup=False, soft_wrap=True)
        limit = Budget(_bench_s(allowed) + CLEANING_UP_S)
        try:
            storebench.conduct(opened, url, settings, False, table, limit, tell)
        except KeyboardInterrupt:
            if limit.left > 0:
                terminal.print("Interrupted; what was written is deleted.")
                raise typer.Exit(INTERRUPTED) from None
            if len(table.rounds) < storebench.LEAST:
                share = f"the store's share of the budget, {_bench_s(allowed):.0f} s,"
                raise UsageError(f"{share} was over before two rounds of reads; give a larger --budget") from None
        summary = storebench.Summary(table.rounds)
    fit = storebench.fit_link({size: summary.seconds_a_key(storebench.Cell("read", size)) for size in settings.sizes})
    assert fit is not None  # there are three sizes
    total = max(summary.bytes_per_s(cell).value for cell in summary.of("read"))
    return Link(fit.latency_s.value, min(fit.bytes_per_s.value, total), total)


def _told(link: "Link") -> str:
    return f"{link.latency_s * 1e3:.3g} ms per call, {link.stream_bytes_per_s / 1e6:,.0f} MB/s per stream, {_most(link)} together"


def _most(link: "Link") -> str:
    return f"{link.total_bytes_per_s / 1e6:,.0f} MB/s" if link.total_bytes_per_s else "no bound"


def _prefixes(settled: "Setting") -> list[int]:
    """Some of the workload's hits, in tokens; spread over all."""
    hits = sorted({hit for hit in settled.hits if hit})
    return sorted({hits[round(place * (len(hits) - 1) / (LENGTHS - 1))] for place in range(LENGTHS)})


def _shortlist(settled: "Setting", link: "Link") -> list[str]:
    from harness.experiment.record import machine
    from harness.replay.kv_shape import kv_shape
    from harness.reporting.forecast import shortlist
    from harness.reporting.forecast.prediction import Setup

    shape, chunk_tokens = kv_shape(settled.experiment.model, settled.dtype), settled.experiment.chunk_tokens
    setup = Setup(link, shape.layers, shape.token_bytes * chunk_tokens, chunk_tokens, machine()["cores"])
    return shortlist(setup, _prefixes(settled))


def _measure(setting: "Setting", folder: Path, text: str, budget: "Budget") -> None:
    """As ``ttft compare``, until the budget is spent; then the report. Ctrl-C exits with 130."""
    from harness.gate.alike import BudgetWatch

    try:
        with budget.enforced():
            measured(setting, folder, watch=BudgetWatch(budget))
    except KeyboardInterrupt:
        if budget.left > 0:
            show_if_any(folder)
            typer.echo(f"Interrupted; what was measured is kept in {folder}, but nothing is recommended")
            raise typer.Exit(INTERRUPTED) from None
        if not has_requests(folder):
            raise UsageError(f"the budget of {text} was over before the first request; give a larger one") from None
    show_if_any(folder)


def _recommend(settled: "Setting", folder: Path, arms: list[str], link: "Link") -> None:
    """Print and write what the measurement supports. Raises VoidRuns if its rows must not be judged."""
    from harness.gate.checks import refusals, usable
    from harness.reporting.choice import choose, sentences
    from harness.results import load
    from harness.results.evidence import gather

    measurement = load(folder, spans=False)
    if reasons := refusals(measurement, usable(measurement)[0], arms):
        raise VoidRuns(f"nothing is recommended: {reasons[0]}; the report in {folder} has all of it")
    evidence = gather(measurement)
    lacking = [arm for arm in arms if not (evidence.rows["arm"] == arm).any()]
    if lacking:
        raise UsageError(f"the budget was over before arm {lacking[0]} had a whole run; give a larger one")
    choice = choose(evidence, arms)
    said = [*sentences(choice), *_beyond(settled, evidence, choice, link)]
    config = _transfer_config(settled, choice.arm)
    terminal = console()
    terminal.print()
    for text in said:
        terminal.print(text, markup=False, soft_wrap=True)
    # Not through the console: the line is to be copied as it is.
    typer.echo(f"\n--kv-transfer-config {shlex.quote(json.dumps(config, separators=(',', ':')))}")
    _write(folder / "tune.json", choice, said, config)


def _beyond(settled: "Setting", evidence: Any, choice: "Choice", link: "Link") -> list[str]:
    """A sentence if the recurrence, with the compute that is known now, expects much of an arm that was not measured."""
    from harness.reporting import forecast as advice
    from harness.reporting.forecast.shortlist import MARGIN

    try:
        basis = advice.from_run(evidence, link)
        least = advice.smallest_lead(MARGIN, advice.check(evidence, link))
        last = advice.advise(basis, advice.Grid(), [max(_prefixes(settled))], least)[0]
    except (ResultsError, UsageError):
        return []  # it is only a hint
    there = {arm.name for arm in evidence.arms}
    best, other = min((one.ttft_s for one in last.forecasts if one.arm.name in there), default=0.0), last.recommended
    if other.arm.name in there or other.ttft_s * (1 + least) >= best:
        return []
    asked = settled.experiment
    words = ["ttft", "compare", "--store", redact(asked.store), "--model", asked.model, "--workload", asked.workload]
    words += ["--arm", choice.arm, "--arm", other.arm.name]
    return [
        f"By the recurrence {other.arm.name} would take {1 - other.ttft_s / best:.0%} less than the best of these at "
        f"{last.prefix:,} tokens; it was not measured. Measure it: {shlex.join(words)}"
    ]


def _transfer_config(settled: "Setting", arm: str) -> dict[str, Any]:
    """What ``vllm serve --kv-transfer-config`` takes; a store with a password stays in the environment."""
    from dataclasses import replace

    from harness.commands.serve import served
    from harness.experiment.session import engine_settings
    from harness.replay.in_process import transfer_arguments

    settings = served(engine_settings(settled, settled.dtype, Path(), save=True))
    kept = ("store", "chunk_tokens", "layout")
    connector = {"arms": [arm], **{name: settings.connector[name] for name in kept}}
    return transfer_arguments(replace(settings, connector=connector))


def _write(file: Path, choice: "Choice", said: list[str], config: dict[str, Any]) -> None:
    from harness.reporting.choice import ALPHA, METRIC

    text = {
        "schema": 1,
        "command": command_line(),
        "recommended": choice.arm,
        "shown_fastest": choice.shown_fastest,
        "metric": METRIC,
        "alpha_of_all_pairs": ALPHA,
        "ratios": [
            {"arm": one.candidate, "ratio": one.ratio, "low": one.low, "high": one.high, "pairs": one.n_pairs}
            for one in choice.ratios
        ],
        "ttft_s": choice.fetch_s,
        "recompute_s": choice.recompute_s,
        "said": said,
        "kv_transfer_config": config,
    }
    try:
        file.write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ResultsError(f"{file} cannot be written: {error.strerror}; make room") from error
