"""Where the key of an axis stands in an experiment, and the experiment with a value put there. Pure."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from harness.builtin_model import BuiltinOptions
from harness.config import Experiment, merge
from harness.connector.settings import parse_arm
from harness.errors import UsageError, known
from harness.replay.arrivals import KINDS, parse_arrivals
from harness.specs import parse_options, split_spec
from harness.stores import STORES
from harness.stores.base import Store, redact
from harness.sweep.axes import Axis, as_toml
from harness.workloads import WORKLOADS

NOT_VARIED: Mapping[str, str] = {
    "arms": "several --arm make several arms, and ENGINE.OPTION, as chunkwise.pool=0,8, varies an option of them",
    "bounds": "it says which arms are measured; set it by --set bounds=false",
    "pairs": "it says how often each point is measured; give --pairs",
    "question": "it only says what the experiment answers",
    "vary": "it lists what is varied",
    "vllm": "name the engine argument, as vllm.max_num_seqs=4,8",
}
"""Settings that are no axes, and why."""

OPENED = ("workload", "store", "model", "arrivals", "vllm")
"""Settings with options of their own, which stand behind a dot."""


def is_arm_axis(axis: Axis) -> bool:
    """Whether its values become arms; those of every other axis become points."""
    return bool(axis.owner) and axis.owner not in OPENED


def check_key(axis: Axis, experiment: Experiment) -> None:
    """Raise UsageError, with what there is, where the experiment has no such thing to vary."""
    if not axis.owner:
        if axis.key in NOT_VARIED:
            raise UsageError(f"{axis.key} cannot be varied: {NOT_VARIED[axis.key]}")
        if axis.key not in Experiment.model_fields:
            engines = sorted({f"{parse_arm(arm).engine.name}.OPTION" for arm in experiment.arms})
            names = [name for name in Experiment.model_fields if name not in NOT_VARIED]
            raise known("setting to vary", axis.key, [*names, *(f"{name}.OPTION" for name in OPENED), *engines])
        if axis.key == "store" and any(redact(value) != value for value in axis.values):
            raise UsageError(
                "--vary store has a password in it, and sweep.json must not keep one; put it where the client finds it"
            )
        return
    options = options_of(axis.owner, experiment)
    if options is not None and axis.option not in options:
        raise known(f"option of {axis.owner} to vary", axis.key, [f"{axis.owner}.{name}" for name in options])


def options_of(owner: str, experiment: Experiment) -> list[str] | None:
    """Names of the options of a setting or an engine of the experiment; None where anything may be given (vllm).

    Raises UsageError where there is no such owner.
    """
    if owner == "vllm":
        return None
    if owner == "workload":
        return list(WORKLOADS.get(split_spec(experiment.workload)[0]).Options.model_fields)
    if owner == "arrivals":
        return list(KINDS[split_spec(experiment.arrivals)[0]].model_fields) if parse_arrivals(experiment.arrivals) else []
    if owner == "store":
        return list(dict.fromkeys(name for store in _stores(experiment.store) for name in store.Options.model_fields))
    if owner == "model":
        if split_spec(experiment.model)[0] != "builtin":
            raise UsageError(f"model {experiment.model} has no options to vary; only the builtin model has")
        return list(BuiltinOptions.model_fields)
    engines = {arm.engine.name: arm.engine for arm in map(parse_arm, experiment.arms)}
    if owner not in engines:
        raise known("thing to vary options of", owner, [*OPENED, *engines])
    return list(engines[owner].Options.model_fields)


def _stores(url: str) -> list[type[Store]]:
    """The store that a URL names, behind those that wrap it. Raises UsageError."""
    found: list[type[Store]] = []
    for scheme in urlsplit(url).scheme.split("+"):
        found.append(STORES.get(scheme))
        if not found[-1].wraps:
            break
    return found


def with_value(experiment: Experiment, key: str, value: str) -> Experiment:
    """The experiment with one value put where ``key`` says. Raises UsageError where it will not do."""
    owner, _, option = key.rpartition(".")
    settings = experiment.model_dump()
    if not owner:
        settings[key] = as_toml(value) if not isinstance(settings[key], str) else value
    elif owner == "store":
        settings["store"] = with_store_option(experiment.store, option, value)
        _check_store(settings["store"], option)
    elif owner == "vllm":
        settings["vllm"] = {**experiment.vllm, option: as_toml(value)}
    else:
        settings[owner] = with_option(settings[owner], option, value)
    return merge(settings)


def _check_store(url: str, option: str) -> None:
    """Raise UsageError where the store would refuse the option, which is known without opening it."""
    values = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    for store in _stores(url):
        names = store.Options.model_fields
        if option in names:
            parse_options(store.Options, {name: one for name, one in values.items() if name in names}, f"store '{store.name}'")


def with_option(spec: str, option: str, value: Any) -> str:
    """``name:a=1,b=2`` with one option set; what follows an ``@``, an arm's label, stays where it is."""
    text, at, label = spec.partition("@")
    name, options = split_spec(text)
    options[option] = str(value)
    return f"{name}:{','.join(f'{key}={one}' for key, one in options.items())}{at}{label}"


def with_store_option(url: str, option: str, value: str) -> str:
    """The store's URL with one option set; everything else stays as it was written."""
    address, _, query = url.partition("?")
    mine = f"{option}={quote(value, safe='')}"
    pairs = [pair for pair in query.split("&") if pair]
    places = [place for place, pair in enumerate(pairs) if unquote(pair.partition("=")[0]) == option]
    if places:
        pairs[places[0]] = mine
    else:
        pairs.append(mine)
    return f"{address}?{'&'.join(pairs)}"
