"""A request through the API of a server, and every way in which that can fail: a row with an error, never an exception."""

import asyncio
from typing import Any

import pytest
from stub_vllm import StubVllm, serving

from harness.core.errors import SetupError
from harness.replay.outcome import Outcome
from harness.replay.over_http import connected

PROMPT = (5, 6, 7)
PARAMS = {"arm": "layerwise:depth=4", "max_hit_tokens": 256}


def ask(
    stub: StubVllm, times: int = 1, silence_s: float = 20.0, heard: list[float] | None = None, output_tokens: int = 3
) -> list[Outcome]:
    """The same request, one after the other, over one client."""

    async def all_of_them(url: str) -> list[Outcome]:
        async with connected(url, silence_s) as engine:
            told: dict[str, Any] = {"heard": heard.append} if heard is not None else {}
            return [await engine.generate(f"r{number}", PROMPT, output_tokens, PARAMS, **told) for number in range(times)]

    with serving(stub) as url:
        return asyncio.run(all_of_them(url))


def test_a_request_says_all_that_decides_its_answer() -> None:
    stub = StubVllm()
    ask(stub)
    body = stub.bodies[0]
    assert (body["model"], body["prompt"], body["max_tokens"], body["kv_transfer_params"]) == ("small", [5, 6, 7], 3, PARAMS)
    assert (body["temperature"], body["ignore_eos"], body["repetition_penalty"]) == (0, True, 1.0)
    assert body["stream"] and body["return_token_ids"] and body["stream_options"] == {"include_usage": True}


def test_the_answer_is_read_to_its_end_and_timed() -> None:
    heard: list[float] = []
    [outcome] = ask(StubVllm(fault=lambda body: "comment first"), heard=heard)
    assert (outcome.error, outcome.tokens, outcome.cached_tokens) == ("", (7, 7, 7), 0)
    assert (outcome.queue_s, outcome.prefill_s, outcome.server_ttft_s) == (0.25, 0.5, None)
    assert len(heard) == 3 and len(outcome.token_gaps_s) == 2
    assert outcome.first_s == heard[0] and outcome.last_s is not None
    assert outcome.sent_s < heard[0] <= heard[1] <= heard[2] <= outcome.last_s


def test_one_connection_serves_request_after_request_also_after_a_refusal() -> None:
    stub = StubVllm(fault=lambda body: "429" if len(stub.bodies) == 2 else "")
    outcomes = ask(stub, times=4)
    assert [bool(outcome.error) for outcome in outcomes] == [False, True, False, False]
    assert len(stub.connections) == 1
    assert len({headers["X-Request-Id"] for headers in stub.headers if "X-Request-Id" in headers}) == 4


@pytest.mark.parametrize(
    ("fault", "first", "error"),
    [
        ("429", False, 'the server answered 429: {"error": {"message": "not now", "code": 429}}'),
        ("500", False, 'the server answered 500: {"error": {"message": "not now", "code": 500}}'),
        ("stall", True, "the server was silent for 0.3 s after 1 of 3 tokens"),
        ("cut", True, "the server closed the stream after 1 of 3 tokens (ClientPayloadError)"),
        ("end early", True, "the server closed the stream after 1 of 3 tokens"),
        ("not json", True, "the server's stream cannot be read: '{nonsense' is not JSON"),
        ("no object", True, "the server's stream cannot be read: '[1]' is no completion"),
        ("no completion", True, "the server's stream cannot be read: '{\"answer\": 42}' is no completion"),
        ("short", True, "the server gave 1 of 3 tokens (finish reason: none)"),
    ],
)
def test_a_fault_is_an_outcome_with_an_error_and_the_next_request_goes_through(fault: str, first: bool, error: str) -> None:
    stub = StubVllm(fault=lambda body: fault if len(stub.bodies) == 1 else "")
    failed, served = ask(stub, times=2, silence_s=0.3)
    assert failed.error == error
    assert (failed.first_s is not None) == first
    assert served.error == "" and served.tokens == (7, 7, 7)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("deep", "is not JSON"),
        ("infinite token", "is no completion"),
        ("huge token", "is no completion"),
        ("negative token", "is no completion"),
        ("token of text", "is no completion"),
        ("odd usage", "is no completion"),
        ("odd metrics", "is no completion"),
        ("long line", "cannot be read"),
        ("longer line", "a line of it is longer than 16 MiB"),
        ("endless comments", "the server was silent for 0.3 s after 0 of 3 tokens"),
        ("endless tokens", "the server gave more than the 3 tokens that were asked for"),
        ("endless refusal", "the server answered 500: sorry sorry"),
        ("no ids", "the server's answer has text but no token ids"),
    ],
)
def test_a_hostile_answer_is_an_error_of_one_request_and_bounded(fault: str, error: str) -> None:
    stub = StubVllm(fault=lambda body: fault if len(stub.bodies) == 1 else "")
    failed, served = ask(stub, times=2, silence_s=0.3)
    assert error in failed.error and len(failed.error) < 400
    assert served.error == "" and served.tokens == (7, 7, 7)


@pytest.mark.parametrize("fault", ["buffered", "one event"])
def test_tokens_that_a_proxy_held_back_are_noticed(fault: str) -> None:
    """By what the server says of its own decoding time, and without it by tokens that come in one burst."""
    for outcome in ask(StubVllm(fault=lambda body: fault), times=2, output_tokens=6):
        assert outcome.error == ""
        assert outcome.held_back_s > 0


def test_an_error_that_vllm_puts_into_the_stream_is_told() -> None:
    class Failing:
        async def generate(self, *_: Any) -> Outcome:
            return Outcome(0.0, error="the KV could not be loaded")

    [outcome] = ask(StubVllm(engine=Failing()))
    assert outcome.error.startswith("the server's stream ended in an error: ")
    assert "the KV could not be loaded" in outcome.error


def test_a_server_that_went_away_is_an_error_of_each_request() -> None:
    async def go(stub: StubVllm) -> list[Outcome]:
        with serving(stub) as url:
            client = connected(url, 5.0)
            engine = await client.__aenter__()
        try:
            return [await engine.generate("r", PROMPT, 3, PARAMS) for _ in range(2)]
        finally:
            await client.__aexit__(None, None, None)

    first, second = asyncio.run(go(StubVllm()))
    assert first.error == "the server closed the stream after 0 of 3 tokens (ServerDisconnectedError)"
    assert second.error == "the server cannot be reached: Connection refused"
    assert (first.first_s, second.first_s) == (None, None)


def test_cancelling_closes_the_connection() -> None:
    stub = StubVllm(fault=lambda body: "stall")

    async def go(url: str) -> None:
        async with connected(url, 20.0) as engine:
            sending = asyncio.create_task(engine.generate("r", PROMPT, 3, PARAMS))
            while not stub.bodies:
                await asyncio.sleep(0.01)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            while not next(iter(stub.connections)).is_closing():
                await asyncio.sleep(0.01)

    with serving(stub) as url:
        asyncio.run(go(url))


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "second")
    monkeypatch.setenv("TTFT_API_KEY", "s3cret")
    stub = StubVllm(key="s3cret")
    assert ask(stub)[0].error == ""
    monkeypatch.delenv("TTFT_API_KEY")
    with pytest.raises(SetupError, match=r"refuses the key \(it answers 401\); set TTFT_API_KEY") as raised:
        ask(StubVllm(key="s3cret"))
    assert "second" not in str(raised.value)


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({"/version": (404, "nothing")}, r"is no vLLM, or not ready: /version answers 404$"),
        ({"/version": (200, "<html>")}, r"is no vLLM: its /version is not JSON$"),
        ({"/version": (200, "[]")}, r"is no vLLM: its /version is not an object$"),
        ({"/version": (200, "{}")}, r"is no vLLM: its /version tells none$"),
        ({"/version": (200, 100_000 * "[")}, r"is no vLLM: its /version is not JSON$"),
        ({"/version": (200, 18 * 2**20 * "{")}, r"is no vLLM: its /version is not JSON$"),
        ({"/v1/models": (200, '{"data": [{"id": "m", "max_model_len": 1e999}]}')}, r"names no model with a max_model_len$"),
        ({"/v1/models": (200, '{"data": []}')}, r"is no vLLM: its /v1/models names no model with a max_model_len$"),
        ({"/v1/models": (200, '{"data": [{"id": "gpt"}]}')}, r"its /v1/models names no model with a max_model_len$"),
        ({"/v1/models": (503, "loading")}, r"is no vLLM, or not ready: /v1/models answers 503$"),
        ({"/v1/ttft": (200, '{"arms": 3}')}, r"the server's /v1/ttft cannot be read \(store: Field required\)"),
    ],
)
def test_a_server_that_is_not_what_is_needed_is_one_sentence(answers: dict[str, Any], error: str) -> None:
    with pytest.raises(SetupError, match=error):
        ask(StubVllm(answers=answers))


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    async def go() -> None:
        async with connected("http://127.0.0.1:9", 1.0):
            raise AssertionError("connected to nothing")

    with pytest.raises(SetupError, match=r"^the server at http://127.0.0.1:9 cannot be reached \(Connection refused\);"):
        asyncio.run(go())
