"""What would lower an arm's TTFT: a setting of its engine or another engine, and the command that shows it."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from harness.core.errors import ResultsError, UsageError
from harness.core.options import split_spec
from harness.core.text import without_secrets
from harness.experiment.settings import Experiment, merge, read_experiment
from harness.reporting.explain.parts import Cause, Parts
from harness.reporting.forecast.basis import from_run
from harness.reporting.forecast.prediction import DEFAULTS, option, predict
from harness.results.evidence import Arm, Evidence
from harness.stats import compare

WORTH = 0.97
"""A TTFT that is predicted, or was measured, at more than this share of the arm's is no gain worth naming."""

OWN_FLAGS = ("arms", "question", "vary", "workload", "store", "max_model_len")
"""Settings that the command has in another form, or that follow from the rest."""


class Change(StrEnum):
    """What there is to change."""

    ARM = "arm"  # another arm, by the recurrence or untried
    MEASURED = "measured"  # another arm, which the same measurement has
    STORE = "store"  # no arm that we know: a store with other round trips or bandwidth
    TRAFFIC = "traffic"  # fewer requests at once
    PLACE = "place"  # client and server nearer together
    PROMPTS = "prompts"  # more of each prompt as a hit
    UNKNOWN = "unknown"  # nothing that we know to try


@dataclass(frozen=True, slots=True)
class Remedy:
    """``arm``: the other arm's text. ``now_s`` and ``then_s``: TTFT of both, predicted or measured; None if nobody knows.

    ``command`` can be run as it stands.
    """

    change: Change
    command: str
    arm: str = ""
    now_s: float | None = None
    then_s: float | None = None


def remedy_of(evidence: Evidence, parts: Parts, means: Mapping[str, float]) -> Remedy:
    """``means``: mean TTFT in seconds of the measurement's arms, by name."""
    folder = shlex.quote(str(evidence.run.path))
    match parts.bottleneck:
        case Cause.QUEUE:
            alone = {"concurrency": 1, "arrivals": "closed", "neighbours": 0, "probe_every_s": 0.0}
            return Remedy(Change.TRAFFIC, _command(evidence, [parts.arm.name], alone))
        case Cause.OTHER:
            return Remedy(Change.PLACE, f"ttft timeline {folder}")
        case Cause.COMPUTE:
            return Remedy(Change.PROMPTS, _command(evidence, [parts.arm.name], {"bounds": True}))
        case Cause.LOOKUP:
            return Remedy(Change.STORE, _bench(evidence))
    other = _measured(evidence, parts, means) or _untried(evidence, parts, means)
    if other is not None:
        return other
    if parts.bottleneck in (Cause.SLOWED, Cause.COPIES):  # no store changes that
        return Remedy(Change.UNKNOWN, f"ttft timeline {folder}")
    return Remedy(Change.STORE, _bench(evidence))


def _measured(evidence: Evidence, parts: Parts, means: Mapping[str, float]) -> Remedy | None:
    """The fastest arm of the same measurement that is shown to be faster by more than chance."""
    for name in sorted(means, key=lambda name: means[name]):
        if means[name] >= WORTH * parts.ttft_s:
            break
        try:
            found = compare(evidence.rows, parts.arm.name, name, ["mean"])[0]
        except ResultsError:  # no round has both
            continue
        if found.high < 1:
            command = f"ttft report {shlex.quote(str(evidence.run.path))}"
            return Remedy(Change.MEASURED, command, name, parts.ttft_s, means[name])
    return None


def _untried(evidence: Evidence, parts: Parts, means: Mapping[str, float]) -> Remedy | None:
    """Of the candidates that were not measured the best by the recurrence; where that says nothing, the likeliest."""
    seen = {_identity(arm) for arm in evidence.arms if arm.name in means}
    left = [arm for arm in _candidates(parts) if _identity(arm) not in seen]
    if not left:
        return None
    predicted = _predicted(evidence, [parts.arm, *left]) if parts.bottleneck is not Cause.SLOWED else {}
    now = predicted.pop(parts.arm.name, None)
    if now is None or not predicted:
        return Remedy(Change.ARM, _command(evidence, [parts.arm.name, left[0].name]), left[0].name)
    best = min(predicted, key=lambda name: predicted[name])
    if predicted[best] >= WORTH * now:
        return None
    return Remedy(Change.ARM, _command(evidence, [parts.arm.name, best]), best, now, predicted[best])


def _candidates(parts: Parts) -> list[Arm]:
    """What experience says to try, the likeliest first; empty for an engine that isn't ours."""
    arm, cause = parts.arm, parts.bottleneck
    if arm.engine not in ("chunkwise", "layerwise"):
        return []
    if cause is Cause.COPIES:
        return [_with(arm, staged="false")]
    if arm.engine == "chunkwise":
        pool = _number(arm, "pool")
        larger = [_with(arm, pool=8)] if pool < 8 else [_with(arm, pool=2 * pool)]
        batched = [_with(arm, batch=8)] if cause is Cause.ROUND_TRIPS else []
        layerwise = [_made("layerwise", groups="auto", readers=readers) for readers in (max(8, pool), 2 * max(8, pool))]
        return [*batched, *larger, *layerwise]
    readers, depth = _number(arm, "readers"), _number(arm, "depth")
    if cause is Cause.SLOWED:
        return [_with(arm, groups="auto"), _with(arm, readers=max(readers // 4, 1)), _made("chunkwise", pool=8)]
    if cause is Cause.ROUND_TRIPS:
        return [_with(arm, groups="auto"), _with(arm, readers=2 * readers), _with(arm, batch=8), _made("chunkwise", pool=8)]
    return [_with(arm, readers=2 * readers, depth=2 * depth), _with(arm, groups="auto"), _made("chunkwise", pool=8)]


def _predicted(evidence: Evidence, arms: list[Arm]) -> dict[str, float]:
    """TTFT by the recurrence at the median prefix; empty where the measurement doesn't say what it needs."""
    try:
        basis = from_run(evidence)
        hits = evidence.of(arms[0])["hit_tokens"].dropna().astype("float64")
        size = basis.setup.chunk_tokens
        step = basis.step(int(hits.median()) // size * size)
    except (ResultsError, UsageError, ValueError):
        return {}
    found = {arm.name: predict(arm, basis.setup, step) for arm in arms}
    return {name: value for name, value in found.items() if value is not None}


def _with(arm: Arm, **changes: Any) -> Arm:
    """The arm with other options, in text and as values; what earlier versions called layers_per_fetch is ``groups``."""
    name, given = split_spec(arm.name.partition("@")[0])
    given = {"groups" if key == "layers_per_fetch" else key: value for key, value in given.items()}
    options = {**given, **{key: str(value) for key, value in changes.items()}}
    text = name + (":" + ",".join(f"{key}={value}" for key, value in options.items()) if options else "")
    return Arm(text, arm.engine, {**arm.options, **changes}, arm.order)


def _made(engine: str, **options: Any) -> Arm:
    text = engine + ":" + ",".join(f"{key}={value}" for key, value in options.items())
    return Arm(text, engine, options, 0)


def _identity(arm: Arm) -> tuple[str, frozenset[tuple[str, str]]]:
    """What the arm's text says beside the defaults, so that two ways to write one arm are equal."""
    _, given = split_spec(arm.name.partition("@")[0])
    defaults = {name: str(value) for name, value in DEFAULTS.items()} | {"staged": "false", "groups": "1"}
    return arm.engine, frozenset((key, value.lower()) for key, value in given.items() if defaults.get(key) != value.lower())


def _number(arm: Arm, name: str) -> int:
    try:
        return option(arm, name)
    except ValueError:  # pool=default
        return 8


def _bench(evidence: Evidence) -> str:
    return f"ttft store bench {shlex.quote(evidence.setting('store'))} --quick"


def _command(evidence: Evidence, arms: list[str], changes: Mapping[str, Any] | None = None) -> str:
    """``ttft compare`` of ``arms`` under the measurement's own settings, as far as they differ from what is the default."""
    config = {**(evidence.run.meta.get("config") or {}), **(changes or {})}
    default = merge(read_experiment("default")).model_dump()
    words = ["ttft", "compare", "--workload", str(config.get("workload") or default["workload"])]
    words += ["--store", evidence.setting("store", default["store"])]
    words += [word for arm in arms for word in ("--arm", arm)]
    for key, value in config.items():
        if key in Experiment.model_fields and key not in OWN_FLAGS and value != default[key]:
            words += _flag(key, value)
    return without_secrets(" ".join(map(shlex.quote, words)))


def _flag(key: str, value: Any) -> list[str]:
    if key == "bounds":
        return ["--bounds" if value else "--no-bounds"]
    if isinstance(value, Mapping):
        return [word for name, item in value.items() for word in ("--set", f"{key}.{name}={item}")]
    return ["--set", f"{key}={str(value).lower() if isinstance(value, bool) else value}"]
