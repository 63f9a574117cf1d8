"""Is the gate's error rate what it says? Thousands of made-up gates with a known truth.

    python benchmarks/gate_simulation.py             two tables: methods for the interval, scenarios for the gate
    python benchmarks/gate_simulation.py --trials 500

A trial makes up every request of every run: runs alternate A B B A, prompts differ by a factor that all
runs share, and the scenario adds noise between runs. The functions under test are the project's own.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from harness.calibrate import rate
from harness.stats import Plan, lower_bound, metric_of, upper_bound
from harness.stats.location import distribution_free

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
    (replace(PAGE, pairs=12), ("p50",)),
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


def student_bounds(logs: Floats, level: float) -> tuple[Floats, Floats]:
    n = logs.shape[-1]
    half = -student.ppf(level, n - 1) * logs.std(axis=-1, ddof=1) / np.sqrt(n)
    return logs.mean(axis=-1) - half, logs.mean(axis=-1) + half


def stepped_bounds(logs: Floats, level: float) -> tuple[Floats, Floats]:
    """The signed-rank interval without interpolation between its steps."""
    from harness.stats.location import signed_rank_cdf

    n = logs.shape[-1]
    k = int(np.searchsorted(signed_rank_cdf(n), level * (1 + 1e-12), side="right"))
    if not distribution_free(n, level):
        return student_bounds(logs, level)
    first, second = np.triu_indices(n)
    averages = np.sort((logs[..., first] + logs[..., second]) / 2, axis=-1)
    return averages[..., k - 1], averages[..., -k]


def subset_bounds(logs: Floats, level: float) -> tuple[Floats, Floats]:
    """The exact sign-flip test of the mean, inverted: order statistics of the means of all subsets (Hartigan 1969)."""
    n = logs.shape[-1]
    k = int(level * 2**n + 1e-9)
    if n > 12 or k == 0:
        return student_bounds(logs, level)
    chosen = ((np.arange(1, 2**n)[:, None] >> np.arange(n)) & 1).astype(np.float64)
    chosen /= chosen.sum(axis=1, keepdims=True)
    lows, highs = [], []
    for part in np.array_split(logs, max(1, len(logs) * 2**n // CELLS)):
        means = np.sort(part @ chosen.T, axis=-1)
        lows.append(means[:, k - 1])
        highs.append(means[:, -k])
    return np.concatenate(lows), np.concatenate(highs)


def bootstrap_bounds(logs: Floats, level: float) -> tuple[Floats, Floats]:
    """The percentile bootstrap over runs: the outer stage of the hierarchical bootstrap, whose inner stage adds little here."""
    generator = np.random.default_rng(0)
    n = logs.shape[-1]
    draws = generator.integers(0, n, (1000, n))
    parts = [
        np.quantile(part[:, draws].mean(axis=-1), [level, 1 - level], axis=-1)
        for part in np.array_split(logs, max(1, len(logs) // 200))
    ]
    return np.concatenate([low for low, _ in parts]), np.concatenate([high for _, high in parts])


def bootstrap_t_bounds(logs: Floats, level: float) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(0)
    n = logs.shape[-1]
    draws = generator.integers(0, n, (1000, n))
    lows, highs = [], []
    for part in np.array_split(logs, max(1, len(logs) // 200)):
        drawn = part[:, draws]
        centre, error = part.mean(axis=-1), part.std(axis=-1, ddof=1) / np.sqrt(n)
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = (drawn.mean(axis=-1) - centre[:, None]) / (drawn.std(axis=-1, ddof=1) / np.sqrt(n))
        low, high = np.nanquantile(np.where(np.isfinite(scores), scores, np.nan), [level, 1 - level], axis=-1)
        lows.append(centre - high * error)
        highs.append(centre - low * error)
    return np.concatenate(lows), np.concatenate(highs)


Bounds = Callable[[Floats, float], tuple[Floats, Floats]]
METHODS: dict[str, Bounds] = {
    "signed-rank, interpolated": lambda logs, level: (lower_bound(logs, level), upper_bound(logs, level)),
    "signed-rank, stepped": stepped_bounds,
    "sign-flip of the mean": subset_bounds,
    "Student's t": student_bounds,
    "bootstrap-t over runs": bootstrap_t_bounds,
    "percentile bootstrap over runs": bootstrap_bounds,
}


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
            cells.append(f"{100 * np.mean((low <= 0) & (high >= 0)):.1f} / {100 * np.mean(low + FOUND > MARGIN):.0f}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def scenarios(trials: int) -> None:
    print(f"\nThe gate at a 5% margin, one-sided alpha 0.05, {trials} gates a row; all in %\n")
    print(
        "| scenario | pairs | prompts | metrics | false FAIL, no change | PASS, no change | +10% found | FAIL at the margin | coverage |"
    )
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
    verdict = np.zeros(len(logs), dtype=np.int64)
    pairs = np.full(len(logs), float(plan.looks[-1]))
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
    scenarios(trials)
    plans(trials)
    print(f"\nmade in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
