"""The command line of vLLM's server says what the engine in process is started with."""

import json
from typing import Any

import pytest

from harness.replay.in_process import EngineSettings, engine_arguments
from harness.replay.server.arguments import api_server_command


def command(**extra: Any) -> list[str]:
    connector = {"store": "mem://x", "arms": ["floor"]}
    settings = EngineSettings("folder", "float32", 512, 1 << 20, connector, "fail", 2, extra)
    return api_server_command(settings, "127.0.0.1", 8123, "mine")


def after(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1]


def test_every_engine_argument_is_there() -> None:
    words = command()
    settings = EngineSettings("folder", "float32", 512, 1 << 20, {}, tensor_parallel=2)
    for name, value in engine_arguments(settings).items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            assert flag in words
        elif name == "disable_log_stats":
            assert flag not in words and f"--no-{flag[2:]}" not in words  # vLLM has no word for "off" here
        elif value is False:
            assert f"--no-{flag[2:]}" in words
        else:
            assert after(words, flag) == str(value)


def test_the_connector_is_vllm_s_own_json() -> None:
    assert json.loads(after(command(), "--kv-transfer-config")) == {
        "kv_connector": "TTFTConnector",
        "kv_connector_module_path": "harness.connector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"store": "mem://x", "arms": ["floor"]},
        "kv_load_failure_policy": "fail",
    }


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("block_size", 64, ["--block-size", "64"]),
        ("skip_tokenizer_init", False, ["--no-skip-tokenizer-init"]),
        ("hf_overrides", {"a": 1}, ["--hf-overrides", '{"a":1}']),
        ("middleware_like", ["a", "b"], ["--middleware-like", "a", "b"]),
    ],
)
def test_further_arguments_are_written_as_vllm_reads_them(name: str, value: object, words: list[str]) -> None:
    found = command(**{name: value})
    place = found.index(words[0])
    assert found[place : place + len(words)] == words
    assert ("--skip-tokenizer-init" in found) == (name != "skip_tokenizer_init")


def test_what_clients_rely_on_is_switched_on() -> None:
    words = command()
    assert {"--enable-prompt-tokens-details", "--enable-per-request-metrics", "--no-enable-prefix-caching"} <= set(words)
    assert after(words, "--host") == "127.0.0.1" and after(words, "--port") == "8123"
    assert after(words, "--served-model-name") == "mine"
