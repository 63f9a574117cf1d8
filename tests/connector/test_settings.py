"""Settings of the connector and parameters of a request: what is wrong is named, with what is known."""

import pytest

from harness.connector.settings import (
    SPLIT_OTHERWISE,
    RequestParams,
    check_chunk,
    check_ranks,
    parse_arm,
    parse_params,
    parse_settings,
)
from harness.core.errors import UsageError
from harness.engines.chunkwise import ChunkwiseOptions

ARMS = {text: parse_arm(text) for text in ("layerwise:depth=2", "chunkwise:pool=8", "recompute")}


def test_an_arm_is_its_engine_with_options() -> None:
    arm = parse_arm("chunkwise:pool=8,batch=2")
    assert (arm.name, arm.engine.name) == ("chunkwise:pool=8,batch=2", "chunkwise")
    assert isinstance(arm.options, ChunkwiseOptions)
    assert (arm.options.pool, arm.options.batch) == (8, 2)


def test_a_label_makes_a_second_arm_of_the_same_settings() -> None:
    plain, again = parse_arm("chunkwise:pool=8"), parse_arm("chunkwise:pool=8@again")
    assert again.name == "chunkwise:pool=8@again"
    assert (again.engine, again.options) == (plain.engine, plain.options)


def test_an_unknown_engine_lists_the_known_ones() -> None:
    with pytest.raises(
        UsageError, match=r"unknown engine 'chunkwize' \(did you mean 'chunkwise'\?\).*floor.*layerwise.*recompute"
    ):
        parse_arm("chunkwize:pool=8")


def test_an_unknown_option_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown option of engine 'layerwise' 'dept'.*depth.*groups"):
        parse_arm("layerwise:dept=8")


@pytest.mark.parametrize("text", ["chunkwise:pool=-1", "chunkwise:pool=many", "layerwise:depth=0"])
def test_a_wrong_value_names_option_and_value(text: str) -> None:
    option, _, value = text.partition(":")[2].partition("=")
    with pytest.raises(UsageError, match=f"{option}='{value}' is invalid"):
        parse_arm(text)


def test_the_defaults_serve_layerwise_and_save() -> None:
    settings, arms = parse_settings({"store": "file:///tmp/kv"})
    assert list(arms) == ["layerwise"]
    assert (settings.save, settings.span_log, settings.chunk_tokens) == (True, "", 256)


def test_the_default_arm_comes_first() -> None:
    config = {"store": "file:///tmp/kv", "arms": ["chunkwise", "layerwise", "recompute"]}
    assert list(parse_settings(config)[1]) == ["chunkwise", "layerwise", "recompute"]
    assert list(parse_settings({**config, "default_arm": "layerwise"})[1]) == ["layerwise", "chunkwise", "recompute"]


def test_a_default_arm_that_is_not_served_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown default arm 'floor'.*known: chunkwise"):
        parse_settings({"store": "file:///tmp/kv", "arms": ["chunkwise"], "default_arm": "floor"})


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({}, "the connector needs the option 'store'"),
        (
            {"store": "file:///tmp/kv", "chunk_token": 8},
            r"unknown option of the connector 'chunk_token' \(did you mean 'chunk_tokens'",
        ),
        ({"store": "file:///tmp/kv", "chunk_tokens": 0}, "chunk_tokens=0 is invalid"),
        ({"store": "file:///tmp/kv", "arms": []}, r"arms=\[\] is invalid"),
        ({"store": "file:///tmp/kv", "arms": ["nonsense"]}, "unknown engine 'nonsense'"),
    ],
)
def test_wrong_settings_are_refused(config: dict[str, object], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        parse_settings(config)


def test_a_request_without_parameters_gets_the_first_arm() -> None:
    assert parse_params(None, ARMS) == parse_params({}, ARMS) == RequestParams(arm="layerwise:depth=2")


def test_parameters_of_other_connectors_are_ignored() -> None:
    params = {"do_remote_prefill": True, "remote_host": "10.0.0.1", "arm": "recompute", "max_hit_tokens": 512, "save": False}
    assert parse_params(params, ARMS) == RequestParams(arm="recompute", max_hit_tokens=512, save=False)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        (
            {"arm": "chunkwise:pool=9"},
            r"unknown arm 'chunkwise:pool=9' \(did you mean 'chunkwise:pool=8'.*layerwise:depth=2.*recompute",
        ),
        ({"max_hit_tokens": -1}, "max_hit_tokens=-1 is invalid"),
        ({"max_hit_tokens": "all"}, "max_hit_tokens='all' is invalid"),
        ({"save": "perhaps"}, "save='perhaps' is invalid"),
        ({"label": 5}, "label=5 is invalid"),
        (["arm", "recompute"], "is not an object"),
        ("recompute", "is not an object"),
    ],
)
def test_wrong_parameters_are_refused(params: dict[str, object], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        parse_params(params, ARMS)


def test_a_chunk_is_a_whole_number_of_blocks() -> None:
    assert (check_chunk(256, 128), check_chunk(128, 128), check_chunk(16, 1)) == (2, 1, 16)


@pytest.mark.parametrize(("chunk", "block", "fix"), [(200, 128, 128), (100, 128, 128), (300, 16, 288)])
def test_another_chunk_is_refused_with_one_that_would_do(chunk: int, block: int, fix: int) -> None:
    with pytest.raises(UsageError, match=f"chunk_tokens={chunk} is not a multiple.*{block} tokens; use {fix}$"):
        check_chunk(chunk, block)
    assert check_chunk(fix, block) == fix // block


@pytest.mark.parametrize("name", SPLIT_OTHERWISE)
def test_ranks_that_hold_other_layers_or_tokens_are_refused(name: str) -> None:
    check_ranks({})
    check_ranks({"tensor_parallel_size": 8, name: 1})
    with pytest.raises(UsageError, match=f"{name}=2 .*use tensor_parallel$"):
        check_ranks({name: 2})
