"""Is the gate's error rate what it says? Thousands of made-up gates with a known truth.

    python benchmarks/gate_simulation.py             two tables: methods for the interval, scenarios for the gate
    python benchmarks/gate_simulation.py --trials 500

A trial makes up every request of every run: runs alternate A B B A, prompts differ by a factor that all
runs share, and the scenario adds noise between runs. The functions under test are the project's own.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from interval_methods import METHODS, hierarchical_interval

from harness.gate.calibration import rate
from harness.stats import Plan, lower_bound, metric_of, upper_bound

Floats = npt.NDArray[np.float64]
MARGIN = np.log(1.05)
FOUND = np.log(1.10)
CELLS = 6_000_000


@dataclass(frozen=True)
class Scenario:
    """What noise there is, in logs. ``noise`` is the standard deviation between runs."""

    name: str
    pairs: int = 8
    prompts: int = 12
    noise: float = 0.02
    kind: str = "normal"
    drift: float = 0.04
    request_noise: float = 0.09
    request_tails: bool = False


def run_levels(scenario: Scenario, trials: int, generator: np.random.Generator) -> Floats:
    """Log level of each run in time order, shape (trials, 2 * pairs)."""
    shape = (trials, 2 * scenario.pairs)
    times = np.arange(shape[1])
    noise = generator.standard_normal(shape)
    if scenario.kind == "t3":
        noise = generator.standard_t(3, shape)
    elif scenario.kind == "spikes":  # now and then a run is slowed down a lot, as by another process
        noise += np.where(generator.random(shape) < 0.03, generator.exponential(8.0, shape), 0)
    elif scenario.kind == "skewed":
        noise = generator.exponential(1.0, shape) - 1
    elif scenario.kind == "ar1":
        for at in range(1, shape[1]):
            noise[:, at] = 0.7 * noise[:, at - 1] + np.sqrt(1 - 0.49) * noise[:, at]
    elif scenario.kind == "walk":
        noise = noise / 2 + np.cumsum(generator.standard_normal(shape), axis=1) / 2
    phase = generator.random((trials, 1))
    slow = np.sin(2 * np.pi * (phase + times / shape[1])) / 2  # one slow wave, as large from crest to trough as the drift
    return scenario.noise * noise + scenario.drift * slow


def log_ratios(scenario: Scenario, metrics: tuple[str, ...], trials: int, seed: int) -> dict[str, Floats]:
    """For each metric the log ratios of unchanged arms, shape (trials, pairs)."""
    generator = np.random.default_rng(seed)
    per_trial = 2 * scenario.pairs * scenario.prompts
    done: dict[str, list[Floats]] = {metric: [] for metric in metrics}
    for count in _chunks(trials, max(1, CELLS // per_trial)):
        levels = run_levels(scenario, count, generator)
        shape = (count, 2 * scenario.pairs, scenario.prompts)
        noise = generator.standard_t(3, shape) / np.sqrt(3) if scenario.request_tails else generator.standard_normal(shape)
        prompt = 0.3 * generator.standard_normal((count, 1, scenario.prompts))
        seconds = np.exp(levels[..., None] + prompt + scenario.request_noise * noise)
        for metric in metrics:
            runs = np.log(metric_of(seconds, metric)).reshape(count, scenario.pairs, 2)
            ahead = np.where(np.arange(scenario.pairs) % 2, -1.0, 1.0)
            done[metric].append((runs[..., 1] - runs[..., 0]) * ahead)
    return {metric: np.concatenate(parts) for metric, parts in done.items()}


def _chunks(total: int, size: int) -> Iterator[int]:
    for start in range(0, total, size):
        yield min(size, total - start)


@dataclass(frozen=True)
class Outcome:
    """Shares of trials."""

    false_fail: float
    passed: float
    found: float
    at_margin: float
    coverage: float


def gate(logs: dict[str, Floats], alpha: float = 0.05) -> Outcome:
    """What gates over these metrics say: unchanged, 10% slower, and exactly at the margin.

    A slowdown of all requests adds its log to every log ratio, so one sample serves for all three.
    """
    first = next(iter(logs.values()))
    strict = alpha / len(logs)  # the first of Holm's steps decides whether any metric fails
    low = np.max([lower_bound(values, strict) for values in logs.values()], axis=0)
    high = np.max([upper_bound(values, alpha) for values in logs.values()], axis=0)
    inside = (lower_bound(first, 0.025) <= 0) & (upper_bound(first, 0.025) >= 0)
    return Outcome(
        false_fail=float(np.mean(low > MARGIN)),
        passed=float(np.mean(high < MARGIN)),
        found=float(np.mean(low + FOUND > MARGIN)),
        at_margin=float(np.mean(low > 0)),
        coverage=float(np.mean(inside)),
    )


PAGE = Scenario("the design page's: 2% between runs, 4% slow drift")
SCENARIOS: tuple[tuple[Scenario, tuple[str, ...]], ...] = (
    (replace(PAGE, prompts=200), ("p50",)),
    (replace(PAGE, prompts=200), ("p50", "p95")),
    (replace(PAGE, prompts=200), ("mean", "p50", "p90", "p95")),
    (PAGE, ("p50",)),
    (PAGE, ("mean",)),
    (replace(PAGE, pairs=6), ("mean",)),
    (replace(PAGE, pairs=24), ("p50",)),
    (replace(PAGE, pairs=24), ("mean",)),
    (replace(PAGE, name="20% drift", drift=0.20, prompts=200), ("p50",)),
    (replace(PAGE, name="autocorrelated runs (AR(1), 0.7)", kind="ar1", prompts=200), ("p50",)),
    (replace(PAGE, name="random walk", kind="walk", prompts=200), ("p50",)),
    (replace(PAGE, name="skewed runs (exponential)", kind="skewed", prompts=200), ("p50",)),
    (replace(PAGE, name="heavy-tailed requests (t3)", request_tails=True, prompts=200), ("p50", "p95")),
    (replace(PAGE, name="heavy-tailed runs (t3, so 3.5% between runs)", kind="t3", prompts=200), ("p50",)),
    (replace(PAGE, name="heavy-tailed runs, 16 pairs", kind="t3", prompts=200, pairs=16), ("p50",)),
    (replace(PAGE, name="3% of runs far too slow (by 16% on average)", kind="spikes", prompts=200), ("p50",)),
    (replace(PAGE, name="3% of runs far too slow, 12 pairs", kind="spikes", prompts=200, pairs=12), ("p50",)),
    (replace(PAGE, name="a noisy machine: 5% between runs", noise=0.05, prompts=200), ("p50",)),
    (replace(PAGE, name="a noisy machine, 40 pairs", noise=0.05, pairs=40), ("p50",)),
)


def methods(trials: int) -> None:
    print("Coverage of 95% intervals in % / +10% found above a 5% margin in %, 200 prompts, p50\n")
    kinds = [(kind, replace(PAGE, name=kind, kind=kind, prompts=200)) for kind in ("normal", "t3", "spikes", "ar1")]
    sizes = (6, 8, 12)
    heads = [f"{kind}, {pairs}" for kind, _ in kinds for pairs in sizes]
    print("| interval | " + " | ".join(heads) + " |\n|---|" + "---:|" * len(heads))
    samples = [
        log_ratios(replace(scenario, pairs=pairs), ("p50",), trials, seed=11)["p50"] for _, scenario in kinds for pairs in sizes
    ]
    for name, bounds in METHODS.items():
        cells = []
        for logs in samples:
            low, high = bounds(logs, 0.025)
            found = np.mean(bounds(logs, 0.05)[0] + FOUND > MARGIN)
            cells.append(f"{100 * np.mean((low <= 0) & (high >= 0)):.1f} / {100 * found:.0f}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def hierarchical(trials: int) -> None:
    """Requests and all; slow, so fewer trials and 12 prompts."""
    print(f"\nHierarchical bootstrap (rounds, then requests), 12 prompts, {trials} trials: coverage of 95% intervals in %\n")
    print("| noise between requests | 6 pairs | 8 pairs | 12 pairs |\n|---|---:|---:|---:|")
    for noise in (0.01, 0.09):
        scenarios = [replace(PAGE, pairs=pairs, request_noise=noise) for pairs in (6, 8, 12)]
        cells = [f"{100 * _hierarchical_coverage(scenario, trials):.1f}" for scenario in scenarios]
        print(f"| {100 * noise:.0f}% | {' | '.join(cells)} |", flush=True)


def _hierarchical_coverage(scenario: Scenario, trials: int) -> float:
    generator = np.random.default_rng(17)
    inside = 0
    for _ in range(trials):
        levels = run_levels(scenario, 1, generator)[0]
        logs = 0.3 * generator.standard_normal(12) + scenario.request_noise * generator.standard_normal((len(levels), 12))
        runs = np.exp(levels[:, None] + logs)
        rounds = [(runs[at], runs[at + 1])[:: -1 if at % 4 else 1] for at in range(0, len(runs), 2)]
        found = hierarchical_interval(rounds, "p50", draws=500)
        inside += found.low <= 0 <= found.high
    return inside / trials


def scenarios(trials: int) -> None:
    print(f"\nThe gate at a 5% margin, one-sided alpha 0.05, {trials} gates a row; all in %\n")
    heads = ["pairs", "prompts", "metrics", "false FAIL, no change", "PASS, no change", "+10% found", "FAIL at the margin"]
    print(f"| scenario | {' | '.join(heads)} | coverage of 95% intervals |")
    print("|---|---:|---:|---|---:|---:|---:|---:|---:|")
    for scenario, metrics in SCENARIOS:
        found = gate(log_ratios(scenario, metrics, trials, seed=5))
        numbers = (found.false_fail, found.passed, found.found, found.at_margin, found.coverage)
        cells = [scenario.name, str(scenario.pairs), str(scenario.prompts), ", ".join(metrics)]
        print(f"| {' | '.join(cells)} | " + " | ".join(f"{100 * value:.1f}" for value in numbers) + " |", flush=True)
    worst = rate(0, trials)
    print(f"\n0 of {trials} bounds the rate below {100 * worst.high:.2f}% (Clopper-Pearson, 95%).")


def plans(trials: int) -> None:
    print("\nSequential plans (p50, 12 prompts, the design page's noise): in %, and the mean number of pairs\n")
    print("| plan | FAIL at the margin | +10% found | pairs | PASS, no change | pairs |\n|---|---:|---:|---:|---:|---:|")
    for plan in (Plan((16,)), Plan((8, 12, 16)), Plan((8, 12, 16), spending="obrien-fleming"), Plan((8, 16, 24, 32))):
        logs = log_ratios(replace(PAGE, pairs=plan.looks[-1]), ("p50",), trials, seed=3)["p50"]
        cells = []
        for change in (MARGIN, FOUND, 0.0):
            verdict, pairs = _follow(plan, logs + change)
            share = np.mean(verdict == (1 if change else -1))
            cells += [f"{100 * share:.1f}"] + ([f"{pairs.mean():.1f}"] if change != MARGIN else [])
        print(f"| {plan.spending}, looks {', '.join(map(str, plan.looks))} | " + " | ".join(cells) + " |", flush=True)


def _follow(plan: Plan, logs: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """1 FAIL, -1 PASS, 0 undecided; and the pairs measured until then."""
    verdict: npt.NDArray[np.int64] = np.zeros(len(logs), dtype=np.int64)
    pairs: Floats = np.full(len(logs), float(plan.looks[-1]))
    for look, level in zip(plan.looks, plan.levels(), strict=True):
        low, high = lower_bound(logs[:, :look], level), upper_bound(logs[:, :look], level)
        now = np.where(low > MARGIN, 1, np.where(high < MARGIN, -1, 0))
        pairs = np.where((verdict == 0) & (now != 0), look, pairs)
        verdict = np.where(verdict == 0, now, verdict)
    return verdict, pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=4000)
    trials = parser.parse_args().trials
    start = time.perf_counter()
    methods(trials)
    hierarchical(max(trials // 10, 1))
    scenarios(trials)
    plans(trials)
    print(f"\nmade in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
