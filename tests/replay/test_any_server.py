"""What a server without our connector tells: its model, its resets, its counters."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from plain_server import HITS, PlainServer
from stub_vllm import StubVllm, serving

from harness.core.errors import SetupError
from harness.replay.any_server import counted_hits, find_reset, look_up_any, serves_our_connector


def ask(server: Any, what: Callable[[aiohttp.ClientSession, str], Awaitable[Any]]) -> Any:
    async def asked(url: str) -> Any:
        async with aiohttp.ClientSession() as http:
            return await what(http, url)

    with serving(server) as url:
        return asyncio.run(asked(url))


def test_a_server_that_is_no_vllm_has_a_model_and_perhaps_a_context() -> None:
    found = ask(PlainServer(), look_up_any)
    assert (found.version, found.model, found.max_model_len, found.about) == ("", "plain", 0, None)
    assert ask(PlainServer(models={"data": [{"id": "m", "max_model_len": 99}]}), look_up_any).max_model_len == 99
    assert ask(StubVllm(), look_up_any).version == "0.32.0"
    assert ask(StubVllm(answers={"/version": (200, "<html>")}), look_up_any).version == ""


@pytest.mark.parametrize("models", [{}, {"data": []}, {"data": [{"name": "m"}]}, {"data": ["m"]}])
def test_a_server_without_models_is_one_sentence(models: dict[str, Any]) -> None:
    with pytest.raises(SetupError, match=r"is no OpenAI-compatible server: its /v1/models names no model$"):
        ask(PlainServer(models=models), look_up_any)


def test_our_connector_shows_by_its_path_or_its_counter() -> None:
    assert ask(StubVllm(), serves_our_connector)  # it counts blocks that failed
    assert not ask(PlainServer(metrics=HITS), serves_our_connector)
    assert not ask(PlainServer(), serves_our_connector)


def test_a_reset_is_one_that_has_emptied_the_cache() -> None:
    assert ask(PlainServer(), find_reset) == ""
    assert ask(PlainServer(reset="/flush_cache"), find_reset) == "/flush_cache"
    held = StubVllm(answers={"/reset_prefix_cache": (200, '{"success": false}')})
    assert ask(held, find_reset) == ""


def test_hits_are_the_sum_of_their_counters_if_there_are_any() -> None:
    assert ask(PlainServer(), counted_hits) is None
    assert ask(PlainServer(metrics=HITS, hits=7), counted_hits) == 7
    assert ask(PlainServer(metrics="sglang:cached_tokens_total", hits=3), counted_hits) == 3
