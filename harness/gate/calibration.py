"""A against A on this machine: how large a difference noise makes, and how often the gate would cry wolf."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from harness.core.errors import ResultsError, SchemaMismatch, UsageError
from harness.core.findings import Kind, found
from harness.core.replacing import replace_text
from harness.stats import Comparison, compare, lower_bound, upper_bound
from harness.stats.quantiles import Floats

SCHEMA = "1.1"
"""1.1 added the arm, the run, the false alarms and the warnings."""
SIZES: tuple[int, ...] = (4, 6, 8, 10, 12, 16, 20, 30, 50, 100)
"""Numbers of pairs for which the floors are worked out."""
LEAST = 8
"""Pairs to calibrate with."""
DRAWS = 4000
HOLDS = 0.9
"""A margin counts as held when an unchanged candidate passes so often."""


@dataclass(frozen=True, slots=True)
class Rate:
    """``events`` of ``trials``, with the Clopper-Pearson interval of their rate."""

    events: int
    trials: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """What one metric allows. Noise and margins are relative: 0.02 is 2%.

    ``noise`` is the robust standard deviation of the log ratio of one pair; ``bias`` the ratio A against A
    minus 1, which should be within ``bias_low`` to ``bias_high`` of 0; ``margins`` maps a number of pairs to
    the smallest margin that an unchanged candidate passes in 9 of 10 gates.
    """

    metric: str
    noise: float
    bias: float
    bias_low: float
    bias_high: float
    margins: dict[int, float]


@dataclass(frozen=True, slots=True)
class Alarms:
    """How often gates of ``pairs`` pairs at ``margin`` said FAIL though nothing had changed."""

    metric: str
    margin: float
    pairs: int
    rate: Rate


@dataclass(frozen=True, slots=True)
class Calibration:
    """What an A/A run told. ``machine``, ``versions`` and ``config`` are those of its run.json.

    ``arm`` was measured against itself; ``run`` names where; ``warnings`` are to be read beside the floors.
    """

    floors: tuple[NoiseFloor, ...]
    n_pairs: int
    alpha: float
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    arm: str = ""
    run: str = ""
    alarms: tuple[Alarms, ...] = ()
    warnings: tuple[str, ...] = ()

    def floor(self, metric: str, pairs: int) -> float | None:
        """The smallest margin that ``pairs`` pairs hold, from the largest number worked out that isn't above it.

        None for a metric that was not calibrated, or fewer pairs than were worked out.
        """
        for item in self.floors:
            if item.metric == metric:
                sizes = [size for size in item.margins if size <= pairs]
                return item.margins[max(sizes)] if sizes else None
        return None


def calibrate(
    frame: pd.DataFrame,
    base: str,
    again: str,
    metrics: Sequence[str] = ("mean", "p50", "p90", "p95"),
    alpha: float = 0.05,
    sizes: Sequence[int] = SIZES,
    seed: int = 0,
    meta: Mapping[str, Any] | None = None,
) -> Calibration:
    """Noise floors from an A/A run: ``base`` and ``again`` are two arms that do the same.

    ``alpha`` is the gate's one-sided error rate; ``meta`` is the run's, of which machine, versions and
    config are kept. Raises UsageError for fewer than 8 pairs.
    """
    comparisons = compare(frame, base, again, metrics)
    check_pairs(comparisons[0].n_pairs)
    floors = []
    for one in comparisons:
        logs = np.array(one.log_ratios)
        generator = np.random.default_rng(seed)
        floors.append(
            NoiseFloor(
                metric=one.metric,
                noise=float(np.median(np.abs(logs)) / 0.6745),
                bias=one.ratio - 1,
                bias_low=one.low - 1,
                bias_high=one.high - 1,
                margins={size: smallest_margin(logs, size, alpha, generator) for size in sizes},
            )
        )
    machine, versions, config = (dict((meta or {}).get(name) or {}) for name in ("machine", "versions", "config"))
    return Calibration(
        floors=tuple(floors),
        n_pairs=comparisons[0].n_pairs,
        alpha=alpha,
        machine=machine,
        versions=versions,
        config=config,
        arm=base,
        run=str((meta or {}).get("id") or ""),
        warnings=_doubts(comparisons, floors),
    )


def _doubts(comparisons: Sequence[Comparison], floors: Sequence[NoiseFloor]) -> tuple[str, ...]:
    """What the comparisons warn of, and arms that are not as alike as they should be: as sentences, since the file keeps them."""
    said = [finding.limited(one.metric) for one in comparisons for finding in one.warnings]
    for floor in floors:
        if not floor.bias_low <= 0 <= floor.bias_high:
            unlike = found(Kind.ARMS_UNLIKE, bias=floor.bias, low=floor.bias_low, high=floor.bias_high)
            said.append(unlike.limited(floor.metric))
    return tuple(map(str, said))


def check_pairs(pairs: int) -> None:
    """Raise UsageError if so few pairs tell nothing of noise."""
    if pairs < LEAST:
        raise UsageError(f"{pairs} pairs are too few to calibrate with; measure at least {LEAST}, better 20")


def smallest_margin(logs: Floats, pairs: int, alpha: float, generator: np.random.Generator) -> float:
    """The margin below which the upper bound of ``pairs`` A/A pairs stays in HOLDS of cases.

    Pairs are drawn from ``logs``, shape (n,), with replacement and with random signs: A against A has no direction.
    """
    draws = generator.choice(logs, (DRAWS, pairs)) * generator.choice([-1.0, 1.0], (DRAWS, pairs))
    # Ten numbers say little about how far out noise can lie; a little of their own spread fills the gaps between them.
    draws += generator.standard_normal((DRAWS, pairs)) * np.median(np.abs(logs)) * 0.3
    bounds = np.concatenate([upper_bound(part, alpha) for part in np.array_split(draws, 8)])
    return float(np.expm1(np.quantile(bounds, HOLDS)))


def false_alarms(frame: pd.DataFrame, base: str, again: str, metric: str, margin: float, pairs: int, alpha: float = 0.05) -> Rate:
    """How often a gate of ``pairs`` pairs would have said FAIL in this A/A run: over disjoint stretches of it, both ways round.

    Both ways round, since A against B and B against A are alike; the two are not independent, so the interval
    counts each stretch once. Raises UsageError if the run is shorter than one gate.
    """
    logs = np.array(compare(frame, base, again, [metric])[0].log_ratios)
    if pairs < 2:
        raise UsageError(f"a gate of {pairs} pairs never says FAIL, since one pair says nothing about chance; give 2 or more")
    gates = len(logs) // pairs
    if gates == 0:
        raise UsageError(f"the run has {len(logs)} pairs, fewer than one gate of {pairs}; measure more or judge smaller gates")
    stretches = logs[: gates * pairs].reshape(gates, pairs)
    failed = np.maximum(lower_bound(stretches, alpha), lower_bound(-stretches, alpha)) > np.log1p(margin)
    return rate(int(failed.sum()), gates)


def rate(events: int, trials: int, alpha: float = 0.05) -> Rate:
    """A rate with its exact interval (Clopper and Pearson, Biometrika 26, 1934)."""
    interval = binomtest(events, trials).proportion_ci(1 - alpha, method="exact")
    return Rate(events, trials, float(interval.low), float(interval.high))


def save(calibration: Calibration, path: Path) -> None:
    """Write as JSON, replacing what was there. Raises ResultsError if that cannot be."""
    text = json.dumps({"schema": SCHEMA, **asdict(calibration)}, indent=2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, text + "\n")
    except OSError as error:
        raise ResultsError(f"the calibration {path} cannot be written: {error.strerror}; give another path") from error


def beside(folder: Path) -> Path:
    """Where the calibration for a run in ``folder`` is kept: next to the folder, so that runs of one place share it."""
    return folder.absolute().parent / "calibration.json"


def consulted(given: Path | None, folder: Path) -> Calibration | None:
    """The calibration to judge a run in ``folder`` by: the ``given`` file, else the one kept beside it, else None.

    Raises as ``load`` does, also where the file kept beside the run is damaged.
    """
    path = given or beside(folder)
    return load(path) if given is not None or path.exists() else None


def load(path: Path) -> Calibration:
    """Read back. Raises ResultsError for a file that is not there or is none of ours, SchemaMismatch for another version's."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultsError(f"the calibration {path} cannot be read: {error.strerror}; make one with `ttft calibrate`") from error
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"the calibration {path} is not JSON: {error}; make it anew with `ttft calibrate`") from error
    if not isinstance(raw, dict) or str(raw.pop("schema", "")).partition(".")[0] != SCHEMA.partition(".")[0]:
        raise SchemaMismatch(f"the calibration {path} is not of schema {SCHEMA}; make it anew with `ttft calibrate`")
    try:
        floors, alarms = tuple(map(_floor, raw.pop("floors"))), tuple(map(_alarms, raw.pop("alarms", ())))
        for name in ("machine", "versions", "config"):
            raw[name] = dict(raw.get(name) or {})
        return Calibration(floors=floors, alarms=alarms, warnings=tuple(map(str, raw.pop("warnings", ()))), **raw)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ResultsError(f"the calibration {path} lacks a part or has one too many ({error}); make it anew") from error


def _floor(item: Mapping[str, Any]) -> NoiseFloor:
    """Numbers that are none would never refuse a margin."""
    margins = {int(size): _number(margin) for size, margin in item["margins"].items()}
    numbers = {name: _number(value) for name, value in item.items() if name not in ("metric", "margins")}
    return NoiseFloor(metric=str(item["metric"]), margins=margins, **numbers)


def _alarms(item: Mapping[str, Any]) -> Alarms:
    return Alarms(str(item["metric"]), _number(item["margin"]), int(item["pairs"]), Rate(**item["rate"]))


def _number(value: Any) -> float:
    if not math.isfinite(number := float(value)):
        raise ValueError(f"{value} is not a finite number")
    return number
