"""Ways to make an interval from the log ratios of pairs, to be compared by gate_simulation.py.

Each takes logs of shape (trials, pairs) and a one-sided level, and gives lower and upper bounds, shape (trials,).
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from harness.stats import Interval, lower_bound, metric_of, upper_bound
from harness.stats.location import distribution_free, signed_rank_cdf

Floats = npt.NDArray[np.float64]
CELLS = 6_000_000


def student_bounds(logs: Floats, level: float) -> tuple[Floats, Floats]:
    n = logs.shape[-1]
    half = -student.ppf(level, n - 1) * logs.std(axis=-1, ddof=1) / np.sqrt(n)
    return logs.mean(axis=-1) - half, logs.mean(axis=-1) + half


def stepped_bounds(logs: Floats, level: float) -> tuple[Floats, Floats]:
    """The signed-rank interval without interpolation between its steps."""
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
    """The percentile bootstrap over runs: the hierarchical bootstrap without its inner stage."""
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


def hierarchical_interval(
    rounds: Sequence[tuple[Floats, Floats]], metric: str, alpha: float = 0.05, draws: int = 2000, seed: int = 0
) -> Interval:
    """Mean log ratio of candidate over base with its percentile interval: rounds are drawn, then requests within each.

    ``rounds``: seconds of base and candidate of each round, shapes (requests,). Not the product's (decision 0003).
    """
    generator = np.random.default_rng(seed)
    # Each round is redrawn once for every draw; a resample then takes rounds, and of each any one redraw.
    resampled = np.stack([_redraw(pair, metric, draws, generator) for pair in rounds])
    picks = generator.integers(0, len(rounds), (draws, len(rounds)))
    shuffles = generator.integers(0, draws, (draws, len(rounds)))
    means = resampled[picks, shuffles].mean(axis=1)
    low, high = np.quantile(means, [alpha / 2, 1 - alpha / 2])
    observed = [np.log(float(metric_of(theirs, metric)) / float(metric_of(ours, metric))) for ours, theirs in rounds]
    return Interval(float(np.mean(observed)), float(low), float(high))


def _redraw(pair: tuple[Floats, Floats], metric: str, draws: int, generator: np.random.Generator) -> Floats:
    """``draws`` log ratios of one round, each over resampled requests; shape (draws,)."""
    base, candidate = pair
    step = max(1, CELLS // max(len(base), len(candidate)))
    found: list[Floats] = []
    for start in range(0, draws, step):
        count = min(step, draws - start)
        ours = generator.integers(0, len(base), (count, len(base)))
        theirs = ours if len(base) == len(candidate) else generator.integers(0, len(candidate), (count, len(candidate)))
        found.append(np.log(metric_of(candidate[theirs], metric) / metric_of(base[ours], metric)))
    return np.concatenate(found)


Bounds = Callable[[Floats, float], tuple[Floats, Floats]]
METHODS: dict[str, Bounds] = {
    "signed-rank, interpolated": lambda logs, level: (lower_bound(logs, level), upper_bound(logs, level)),
    "signed-rank, stepped": stepped_bounds,
    "sign-flip of the mean": subset_bounds,
    "Student's t": student_bounds,
    "bootstrap-t over runs": bootstrap_t_bounds,
    "percentile bootstrap over runs": bootstrap_bounds,
}
