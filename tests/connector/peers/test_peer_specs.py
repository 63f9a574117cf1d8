"""What users write after --arm, and what vLLM is told for it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.connector.peers import PEERS
from harness.connector.peers.arm import PeerArm, parse_peer
from harness.connector.peers.base import Place
from harness.connector.peers.connector import Connector, ConnectorOptions
from harness.connector.peers.example import Example
from harness.core.errors import SetupError, UsageError
from harness.experiment.plan import parse_any

PLACE = Place(Path("/disk/of/the/store/peers/1"), 256)
RESERVED = {"connector", "module", "role", "prime"}

names = st.from_regex(r"[A-Za-z][A-Za-z0-9_.]{0,11}", fullmatch=True)
keys = names.filter(lambda key: key not in RESERVED and not key.startswith("env."))
words = st.text(max_size=20).filter(lambda text: not set(text) & set(",{") and text == text.strip())


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


texts = words.filter(lambda text: not is_json(text))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)


def peer(spec: str) -> Connector:
    made = parse_peer(spec).at(PLACE)
    assert isinstance(made, Connector)
    return made


def options(spec: str) -> ConnectorOptions:
    parsed = Connector.parse(spec)
    assert isinstance(parsed, ConnectorOptions)
    return parsed


def spec_of(name: str, config: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    items = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in config.items()]
    return f"connector:{','.join([name, *items, *(f'env.{key}={value}' for key, value in environment.items())])}"


@given(names, st.dictionaries(keys, texts | scalars), st.dictionaries(names, words))
def test_options_come_back_as_they_were_written(name: str, config: dict[str, Any], environment: dict[str, str]) -> None:
    parsed = options(spec_of(name, config, environment))
    assert (parsed.connector, parsed.config, parsed.environment) == (name, config, environment)


@given(names, keys, words, words, st.sampled_from(["", "env."]))
def test_an_option_that_stands_twice_is_refused(name: str, key: str, first: str, second: str, kind: str) -> None:
    with pytest.raises(UsageError, match=f"option '{kind}{key}' is listed twice in"):
        Connector.parse(f"connector:{name},{kind}{key}={first},{kind}{key}={second}")


@pytest.mark.parametrize("order", [("threads=4", "env.threads=8"), ("env.threads=8", "threads=4")])
def test_an_option_and_a_variable_may_have_one_name(order: tuple[str, str]) -> None:
    parsed = options(f"connector:Some,{','.join(order)}")
    assert (parsed.config, parsed.environment) == ({"threads": 4}, {"threads": "8"})


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("connector", "'connector' names no connector; write connector:NAME,option=value"),
        ("connector:", "'connector:' names no connector"),
        ("connector: ,a=1", "'connector: ,a=1' names no connector"),
        ("connector:threads=4", "'connector:threads=4' names no connector"),
        ("connector:Some,fast", "'fast' in 'connector:Some,fast' is not option=value"),
        ("connector:Some,=4", "'=4' in 'connector:Some,=4' is not option=value"),
        ("connector:Some,env.=4", "'env.=4' in 'connector:Some,env.=4' names no variable; write env.NAME=value"),
        ("connector:Some,connector=Other", "option 'connector' is listed twice"),
        ("connector:Some,role=both", "peer 'connector': role='both' is invalid"),
        ("connector:Some,path={nofolder}/kv", "unknown placeholder {nofolder}; there is only {folder}"),
        ("connector:Some,path={folder2}", "unknown placeholder {folder2}"),
        ("connector:TTFTConnector", "names our own connector, which every engine of ours uses; name the engine instead"),
        ("example:depth=4", "unknown option of peer 'example' 'depth'"),
        ("lmcache:mode=fast", "peer 'lmcache': mode='fast' is invalid"),
        ("lmcache:mode=layerwise,mode=chunkwise", "option 'mode' is listed twice"),
    ],
)
def test_what_is_no_arm_is_said_in_one_sentence(spec: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        parse_peer(spec)


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999", "[1", "{folder", ""])
def test_what_is_no_json_stays_text(text: str) -> None:
    """NaN and the like would make run.json unreadable for others."""
    assert options(f"connector:Some,a={text}").config == {"a": text}


def test_vllm_is_told_everything() -> None:
    made = peer("connector:Some,module=my.module,role=kv_consumer,prime=prompts,threads=4,on=true,path=file://{folder}/kv")
    assert made.transfer() == {
        "kv_connector": "Some",
        "kv_connector_module_path": "my.module",
        "kv_role": "kv_consumer",
        "kv_connector_extra_config": {"threads": 4, "on": True, "path": f"file://{PLACE.folder}/kv"},
    }
    assert made.primes_prompts
    assert (made.request(save=True), made.request(save=False)) == ({}, {})


def test_a_folder_in_a_list_is_filled_in_as_well() -> None:
    made = peer('connector:Some,paths=["{folder}/a"],on={"at": "{folder}"}')
    folder = str(PLACE.folder)
    assert made.transfer()["kv_connector_extra_config"] == {"paths": [f"{folder}/a"], "on": {"at": folder}}


def test_vllm_is_told_no_more_than_the_user_said() -> None:
    made = peer("connector:Some")
    assert made.transfer() == {"kv_connector": "Some", "kv_role": "kv_both", "kv_connector_extra_config": {}}
    assert not made.primes_prompts
    assert made.environment() == {}


def test_variables_are_filled_in_and_stand_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE_OF_KV", "redis://me:hunter2@host")
    arm = parse_peer("connector:Some,url=$PLACE_OF_KV,env.URL=$PLACE_OF_KV,env.AT={folder}/a,price=4$")
    made = arm.at(PLACE)
    assert made.transfer()["kv_connector_extra_config"] == {"url": "redis://me:hunter2@host", "price": "4$"}
    assert made.environment() == {"URL": "redis://me:hunter2@host", "AT": f"{PLACE.folder}/a"}
    assert "hunter2" not in arm.name + arm.options.model_dump_json()


@pytest.mark.parametrize("spec", ["connector:Some,url=$PLACE_OF_KV", "connector:Some,env.URL=$PLACE_OF_KV"])
def test_a_variable_that_is_not_set_is_named(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLACE_OF_KV", raising=False)
    made = peer(spec)
    with pytest.raises(SetupError, match="the arm connector:Some needs the environment variable PLACE_OF_KV; set it"):
        made.transfer()
        made.environment()


def test_a_password_in_an_arm_is_refused_and_not_repeated() -> None:
    """The name of an arm stands in run.json, in the report and in every picture."""
    with pytest.raises(UsageError, match=r"holds a password, .* write \$NAME") as refused:
        parse_peer("lmcache:backend=redis,url=redis://me:hunter2@host:6379")
    assert "hunter2" not in str(refused.value)


def test_a_value_with_an_at_is_not_cut_silently() -> None:
    with pytest.raises(UsageError, match="'host:6379' looks like part of a value"):
        parse_peer("lmcache:backend=redis,url=redis://me@host:6379")


def test_a_label_makes_a_second_arm_of_the_same_settings() -> None:
    first, second = parse_peer("lmcache:mode=layerwise"), parse_peer("lmcache:mode=layerwise@again")
    assert (first.options, first.engine) == (second.options, second.engine)
    assert (first.name, second.name) == ("lmcache:mode=layerwise", "lmcache:mode=layerwise@again")


def test_engines_of_ours_come_first_and_an_unknown_name_gets_both_lists() -> None:
    assert not isinstance(parse_any("layerwise:depth=2"), PeerArm)
    assert isinstance(parse_any("example"), PeerArm)
    with pytest.raises(UsageError, match=r"unknown engine 'lmcash' .did you mean 'lmcache'.*chunkwise.*example"):
        parse_any("lmcash")


def test_every_peer_says_how_it_is_used() -> None:
    """Whoever adds a file is held to the same."""
    for name, cls in PEERS.all().items():
        assert cls.__doc__, name
        assert all(field.description for field in cls.Options.model_fields.values()), name
        assert cls.grants_hits and cls.loads_kv, name


def test_example_keeps_its_files_in_its_folder_and_is_primed_with_whole_prompts() -> None:
    made = parse_peer("example").at(PLACE)
    assert isinstance(made, Example)
    assert made.primes_prompts
    assert made.transfer() == {
        "kv_connector": "ExampleConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"shared_storage_path": str(PLACE.folder)},
    }
    made.check()
    with made.servers():
        assert made.environment() == {}
