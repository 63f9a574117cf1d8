"""Options inside settings, written with a dot: ``workload.suffix``, ``store.latency_ms``, ``model.layers``. Pure."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from harness.connector.settings import parse_arm
from harness.core.errors import UsageError, known
from harness.core.options import parse_options, split_spec
from harness.core.renamed import option_today, store_today
from harness.core.text import whole
from harness.experiment.settings import Experiment, as_toml, merge
from harness.replay.arrivals import KINDS, parse_arrivals
from harness.replay.builtin_model import BuiltinOptions
from harness.stores import STORES
from harness.stores.base import Store
from harness.workloads import WORKLOADS

OPENED = ("workload", "store", "model", "arrivals", "vllm")
"""Settings with options of their own, which stand behind a dot."""


def experiment_of(*sources: Mapping[str, Any]) -> Experiment:
    """As ``merge``, and a key with a dot sets one option inside a setting, after all whole settings are in place.

    Raises UsageError, with what there is, for a key that does not exist, and for a value that is invalid.
    """
    whole = [{key: value for key, value in source.items() if "." not in key} for source in sources]
    experiment = merge(*whole)
    for key, value in (item for source in sources for item in source.items() if "." in item[0]):
        if value is None:
            continue
        owner, _, option = key.rpartition(".")
        if owner not in OPENED:
            raise UsageError(
                f"--set {key} is no option inside {', '.join(OPENED)}; options of an arm are part of its spec, "
                "as --arm chunkwise:pool=4"
            )
        options = options_of(owner, experiment)
        if options is not None and (option_today(option) if owner == "store" else option) not in options:
            raise known(f"option of {owner}", key, [f"{owner}.{name}" for name in options])
        experiment = with_value(experiment, key, str(value))
    return experiment


def options_of(owner: str, experiment: Experiment) -> list[str] | None:
    """Names of the options of a setting or an engine of the experiment; None if anything may be given (vllm).

    Raises UsageError if there is no such owner.
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
    for scheme in url.partition("://")[0].split("+"):
        found.append(STORES.get(scheme))
        if not found[-1].wraps:
            break
    return found


def with_value(experiment: Experiment, key: str, value: str) -> Experiment:
    """The experiment with one value put where ``key`` says. Raises UsageError if it is invalid."""
    owner, _, option = key.rpartition(".")
    if whole(text := f"{key}={value}") != text:
        raise UsageError(f"{text} is not UTF-8; write it in UTF-8")
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
    """Raise UsageError if the store would refuse the option, which is known without opening it."""
    option = option_today(option)
    values = dict(parse_qsl(store_today(url).partition("?")[2], keep_blank_values=True))
    for store in _stores(url):
        names = store.Options.model_fields
        if option in names:
            parse_options(store.Options, {name: one for name, one in values.items() if name in names}, f"store '{store.name}'")


def with_option(spec: str, option: str, value: Any) -> str:
    """``name:a=1,b=2`` with one option set. Raises UsageError if the value has a comma, which would begin another one."""
    if "," in str(value):
        raise UsageError(f"{option}={value} has a comma in it, which ends an option of '{spec}'; give a value without one")
    name, options = split_spec(spec)
    options[option] = str(value)
    return f"{name}:{','.join(f'{key}={one}' for key, one in options.items())}"


def with_arm_option(arm: str, option: str, value: Any) -> str:
    """The same of an arm; what follows an ``@``, its label, stays where it is."""
    spec, at, label = arm.partition("@")
    return f"{with_option(spec, option, value)}{at}{label}"


def with_store_option(url: str, option: str, value: str) -> str:
    """The store's URL with one option set; everything else stays as it was written."""
    address, _, query = url.partition("?")
    mine = f"{option}={quote(value, safe='')}"
    pairs = [pair for pair in query.split("&") if pair]
    name = option_today(option)
    places = [place for place, pair in enumerate(pairs) if option_today(unquote(pair.partition("=")[0])) == name]
    if places:
        pairs[places[0]] = mine
    else:
        pairs.append(mine)
    return f"{address}?{'&'.join(pairs)}"
