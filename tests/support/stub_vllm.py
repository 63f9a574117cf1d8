"""A stand-in for vLLM's HTTP server on the loopback: its API over any ``generate``, and every way in which it can go wrong."""

import asyncio
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web

from harness.replay.outcome import Outcome

METRICS = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="small"} 1.0
# TYPE vllm:external_prefix_cache_hits counter
vllm:external_prefix_cache_hits_total{engine="0",model_name="small"} %d
vllm:external_prefix_cache_hits_created{engine="0",model_name="small"} 1.7e+09
# TYPE vllm:ttft_failed_load_blocks counter
vllm:ttft_failed_load_blocks_total{engine="0",model_name="small"} %d
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="small"} 0.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="small"} 2.5
vllm:time_to_first_token_seconds_count{engine="0",model_name="small"} 5.0
# TYPE process_open_fds gauge
process_open_fds 30.0
"""


HOSTILE = {
    "deep": b"data: " + 100_000 * b"[" + b"\n\n",
    "infinite token": b'data: {"choices": [{"token_ids": [Infinity]}]}\n\n',
    "huge token": b'data: {"choices": [{"token_ids": [8589934592]}]}\n\n',
    "negative token": b'data: {"choices": [{"token_ids": [-1]}]}\n\n',
    "token of text": b'data: {"choices": [{"token_ids": ["7"]}]}\n\n',
    "odd usage": b'data: {"choices": [], "usage": {"prompt_tokens_details": {"cached_tokens": "many"}}}\n\n',
    "odd metrics": b'data: {"choices": [], "metrics": [1, 2]}\n\n',
    "long line": b"data: " + 17 * 2**20 * b" " + b"\n\n",
    "longer line": b"data: " + 33 * 2**20 * b" ",
}
"""What a hostile server sends before its first token."""


class Served(Protocol):
    """Whatever answers the requests."""

    async def generate(self, request_id: str, tokens: Sequence[int], output_tokens: int, params: Mapping[str, Any]) -> Outcome:
        """One request."""


class Echo:
    """Answers each prompt with its last token, as often as asked."""

    async def generate(self, request_id: str, tokens: Sequence[int], output_tokens: int, params: Mapping[str, Any]) -> Outcome:
        return Outcome(0.0, tokens=(tokens[-1],) * output_tokens, cached_tokens=0, queue_s=0.25, prefill_s=0.5)


@dataclass
class StubVllm:
    """``fault(body)`` names what is to go wrong with a request, or nothing; see ``_completions``."""

    engine: Served = field(default_factory=Echo)
    fault: Callable[[dict[str, Any]], str] = lambda body: ""
    about: Mapping[str, Any] | None = None
    key: str = ""
    max_model_len: int = 4096
    answers: dict[str, Any] = field(default_factory=dict)
    """What a path answers in place of what vLLM would: (status, text)."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)
    hits: int = 0
    failed_blocks: int = 0
    url: str = ""

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**26, middlewares=[self._guard])
        app.router.add_get("/version", self._json({"version": "0.32.0"}))
        models = {"data": [{"id": "small", "max_model_len": self.max_model_len}]}
        app.router.add_get("/v1/models", self._json(models))
        if self.about is not None:
            app.router.add_get("/v1/ttft", self._json(self.about))
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post("/v1/completions", self._completions)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.headers.append(request.headers.copy())
        if self.key and request.path.startswith("/v1") and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        if request.path in self.answers:
            status, text = self.answers[request.path]
            return web.Response(status=status, text=text)
        return await handler(request)  # type: ignore[no-any-return]

    def _json(self, value: Mapping[str, Any]) -> Any:
        async def answer(request: web.Request) -> web.Response:
            return web.json_response(value)

        return answer

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=METRICS % (self.hits, self.failed_blocks))

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.connections.add(request.transport)
        fault = self.fault(body)
        if fault == "endless refusal":
            answer = web.StreamResponse(status=500)
            await answer.prepare(request)
            while True:
                await answer.write(2**16 * b"sorry ")
        if fault.isdigit():
            return web.json_response({"error": {"message": "not now", "code": int(fault)}}, status=int(fault))
        tokens = body["prompt"]
        outcome = await self.engine.generate("stub", tokens, body["max_tokens"], body["kv_transfer_params"])
        self.hits += outcome.cached_tokens or 0
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await self._stream(request, answer, body, outcome, fault)
        return answer

    async def _stream(
        self, request: web.Request, answer: web.StreamResponse, body: Mapping[str, Any], outcome: Outcome, fault: str
    ) -> None:
        if fault == "comment first":
            await answer.write(b": keep-alive\n\n")
        if outcome.error:
            await answer.write(event({"error": {"message": outcome.error, "code": 500}}))
            return
        if fault in HOSTILE:
            await answer.write(HOSTILE[fault])
        while fault == "endless comments":
            await answer.write(b": still here\n\n")
            await asyncio.sleep(0.01)
        while fault == "endless tokens":
            await answer.write(event({"choices": [{"token_ids": [7]}]}))
        if fault == "no ids":
            await answer.write(event({"choices": [{"index": 0, "text": "seven"}]}) + b"data: [DONE]\n\n")
            return
        if fault in ("buffered", "one event"):
            await asyncio.sleep(0.05)
            together = [list(outcome.tokens)] if fault == "one event" else [[token] for token in outcome.tokens]
            metrics = {"queue_time_ms": 0.0, "time_to_first_token_ms": 5.0, "generation_time_ms": 45.0}
            told = {"metrics": metrics} if len(self.bodies) % 2 else {}  # a plain server does not say
            hit = {"prompt_tokens_details": {"cached_tokens": outcome.cached_tokens}}
            end = event({"choices": [], "usage": hit, **told}) + b"data: [DONE]\n\n"
            await answer.write(b"".join(event({"choices": [{"token_ids": some}]}) for some in together) + end)
            return
        for number, token in enumerate(outcome.tokens):
            if number == 1 and fault == "stall":
                await asyncio.sleep(30)
            if number == 1 and fault == "cut":
                assert request.transport is not None
                request.transport.abort()
                return
            if number == 1 and fault == "end early":
                return
            if number == 1 and fault == "not json":
                await answer.write(b"data: {nonsense\n\n")
            if number == 1 and fault == "no object":
                await answer.write(b"data: [1]\n\n")
            if number == 1 and fault == "no completion":
                await answer.write(b'data: {"answer": 42}\n\n')
            if number == 1 and fault == "short":
                break
            choice: dict[str, Any] = {"index": 0, "text": "", "token_ids": [token], "finish_reason": None}
            if number == 0:
                choice["prompt_token_ids"] = body["prompt"]
            await answer.write(event({"id": "cmpl", "choices": [choice]}))
            await asyncio.sleep(0.001)  # no model decodes faster
        usage: dict[str, Any] = {"prompt_tokens": len(body["prompt"])}
        if fault != "no details":
            usage["prompt_tokens_details"] = {"cached_tokens": outcome.cached_tokens}
        last: dict[str, Any] = {"choices": [], "usage": usage}
        if outcome.prefill_s is not None and outcome.queue_s is not None:
            last["metrics"] = {"queue_time_ms": 1e3 * outcome.queue_s, "time_to_first_token_ms": 1e3 * outcome.prefill_s}
        await answer.write(event(last) + b"data: [DONE]\n\n")


def event(value: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


@contextmanager
def serving(stub: StubVllm, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The stub at work in a thread of its own; its address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def begin() -> web.AppRunner:
        runner = web.AppRunner(stub.app(), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        stub.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    runner = asyncio.run_coroutine_threadsafe(begin(), loop).result(10)
    try:
        yield stub.url
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
