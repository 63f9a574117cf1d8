"""A stand-in for a server without our connector, on the loopback: a prefix cache in blocks, and every habit that differs."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

HITS = "vllm:prefix_cache_hits_total"


@dataclass
class PlainServer:
    """``answer``: ids, text, reasoning or pairs (two tokens an event). ``first_s(hit, length)``: how long the first token takes.

    ``tells``: whether an answer says its cached tokens. ``counts``: whether every event counts its tokens. ``metrics``: the
    counter of hits, or nothing. ``reset``: path that empties the cache. ``mangle`` changes what is told of a hit.
    """

    block: int = 8
    answer: str = "ids"
    tells: bool = True
    counts: bool = False
    metrics: str = ""
    reset: str = ""
    keeps: bool = True
    first_s: Callable[[int, int], float] = lambda hit, length: 0.0
    gap_s: float = 0.004
    salt: int = 0
    mangle: Callable[[int], int] = lambda hit: hit
    models: Mapping[str, Any] = field(default_factory=lambda: {"data": [{"id": "plain"}]})
    key: str = ""
    cache: set[tuple[int, ...]] = field(default_factory=set)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    resets: int = 0
    hits: int = 0
    url: str = ""

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**26, middlewares=[self._guard])
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/completions", self._completions)
        if self.metrics:
            app.router.add_get("/metrics", self._metrics)
        if self.reset:
            app.router.add_post(self.reset, self._reset)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        return await handler(request)  # type: ignore[no-any-return]

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response(self.models)

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=f"# TYPE {self.metrics.removesuffix('_total')} counter\n{self.metrics} {self.hits}\n")

    async def _reset(self, request: web.Request) -> web.Response:
        self.cache.clear()
        self.resets += 1
        return web.json_response({"success": True})

    def _hit(self, tokens: Sequence[int]) -> int:
        """Whole blocks that were served before; remembers all whole blocks."""
        heads = [tuple(tokens[:end]) for end in range(self.block, len(tokens) + 1, self.block)]
        hit = 0
        while hit < len(heads) and heads[hit] in self.cache and (hit + 1) * self.block < len(tokens):
            hit += 1
        self.cache.update(heads if self.keeps else [])
        return hit * self.block

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        tokens, wanted = body["prompt"], body["max_tokens"]
        hit = self._hit(tokens)
        self.hits += self.mangle(hit)
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        await asyncio.sleep(self.first_s(hit, len(tokens)))
        ids = [(sum(tokens) + number + self.salt) % 200 for number in range(wanted)]
        if self.answer == "reasoning":  # a chat begins with its role, which is no content
            await stream.write(_event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}))
            await asyncio.sleep(self.gap_s)
        step, done = (2 if self.answer == "pairs" else 1), 0
        while done < wanted:
            some = ids[done : done + step]
            done += len(some)
            usage = {"usage": {"prompt_tokens": len(tokens), "completion_tokens": done}} if self.counts else {}
            await stream.write(_event({"choices": [self._choice(some)], **usage}))
            await asyncio.sleep(self.gap_s)
        told = {"prompt_tokens_details": {"cached_tokens": self.mangle(hit)}} if self.tells else {}
        await stream.write(_event({"choices": [], "usage": {"completion_tokens": wanted, **told}}) + b"data: [DONE]\n\n")
        return stream

    def _choice(self, ids: Sequence[int]) -> dict[str, Any]:
        text = "".join(f"<{one}>" for one in ids)
        if self.answer == "ids":
            return {"index": 0, "text": "", "token_ids": list(ids)}
        return {"index": 0, "delta": {"reasoning_content": text}} if self.answer == "reasoning" else {"index": 0, "text": text}


def _event(value: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()
