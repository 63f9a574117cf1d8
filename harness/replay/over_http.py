"""A running vLLM server through its OpenAI-compatible API: token ids in, a stream of tokens out."""

import contextlib
import itertools
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from harness.replay.outcome import Outcome
from harness.replay.target import Target, key_header, look_up, reason_of

CONNECT_S = 10.0
KEEP_ALIVE_S = 4.0
"""Shorter than the 5 s after which vLLM closes an idle connection: a request must not meet that moment."""
LINE_BYTES = 16 * 2**20
"""The longest line of a stream: the first one repeats the prompt's token ids."""
SAID = 200
"""Characters of a server's own words that an error repeats."""


class HttpEngine:
    """Sends requests to one server. Use ``connected``."""

    def __init__(self, http: aiohttp.ClientSession, target: Target, silence_s: float) -> None:
        """``silence_s``: a stream that says nothing for so long has failed."""
        self._http = http
        self.target = target
        self._silence_s = silence_s
        self._nonce = secrets.token_hex(4)

    @property
    def http(self) -> aiohttp.ClientSession:
        """For look-ups beside the requests."""
        return self._http

    async def generate(
        self,
        request_id: str,
        tokens: Sequence[int],
        output_tokens: int,
        params: Mapping[str, Any],
        heard: Callable[[float], None] | None = None,
    ) -> Outcome:
        """As InProcessEngine's: greedy, always ``output_tokens`` tokens, never raises for a failed request.

        The clock starts when the request is written down and about to leave; connecting, where no connection is open,
        counts. Cancelling closes the connection, upon which vLLM ends the request.
        """
        body = _body(self.target.model, tokens, output_tokens, params)
        headers = {"Content-Type": "application/json", "X-Request-Id": f"{self._nonce}-{request_id}"}
        stream = _Stream(output_tokens, heard)
        sent = time.perf_counter()
        try:
            async with self._http.post(
                f"{self.target.url}/v1/completions", data=body, headers=headers, allow_redirects=False
            ) as answer:
                if answer.status != 200:
                    stream.error = f"the server answered {answer.status}: {_said(await answer.read())}"
                else:
                    async for line in answer.content:  # to its end, or the connection could not be used again
                        stream.take(line, time.perf_counter())
        except aiohttp.ConnectionTimeoutError:
            stream.error = f"the server did not accept a connection within {CONNECT_S:g} s"
        except TimeoutError:
            stream.error = f"the server was silent for {self._silence_s:g} s after {len(stream.tokens)} of {output_tokens} tokens"
        except aiohttp.ClientConnectorError as error:
            stream.error = f"the server cannot be reached: {reason_of(error)}"
        except (aiohttp.ClientError, OSError) as error:
            stream.error = f"{_cut_off(stream)} ({type(error).__name__})"
        except ValueError as error:
            stream.error = f"the server's stream cannot be read: {error}"
        return stream.outcome(sent)

    def close(self) -> None:
        """Nothing: ``connected`` closes what it opened."""


@contextlib.asynccontextmanager
async def connected(url: str, silence_s: float) -> AsyncIterator[HttpEngine]:
    """A client of the server at ``url``. Raises SetupError."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=silence_s)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, headers=key_header(), read_bufsize=LINE_BYTES, cookie_jar=aiohttp.DummyCookieJar()
    ) as http:
        yield HttpEngine(http, await look_up(http, url), silence_s)


def _body(model: str, tokens: Sequence[int], output_tokens: int, params: Mapping[str, Any]) -> bytes:
    return json.dumps(
        {
            "model": model,
            "prompt": list(tokens),
            "max_tokens": output_tokens,
            "temperature": 0,
            "repetition_penalty": 1.0,  # a server may have defaults of its own, from the model's generation_config.json
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_token_ids": True,
            "kv_transfer_params": dict(params),
        },
        separators=(",", ":"),
    ).encode()


@dataclass
class _Stream:
    """One answer as it comes in: server-sent events, a JSON object each, ``[DONE]`` at the end."""

    wanted: int
    heard: Callable[[float], None] | None
    tokens: list[int] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    cached_tokens: int | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    finish_reason: str = ""
    done_s: float | None = None
    error: str = ""

    def take(self, line: bytes, at: float) -> None:
        """One line that came in at ``at``. Raises ValueError for what is no event."""
        if not line.startswith(b"data:"):
            return  # the blank line between two events, or a comment that keeps the connection alive
        data = line[5:].strip()
        if data == b"[DONE]":
            self.done_s = at
            return
        try:
            event = json.loads(data)
        except ValueError:
            raise ValueError(f"'{_said(data)}' is not JSON") from None
        try:
            if "error" in event:
                self.error = f"the server's stream ended in an error: {_said(data)}"
            else:
                self._note(event, at)
        except (TypeError, KeyError, AttributeError, IndexError):
            raise ValueError(f"'{_said(data)}' is no completion") from None

    def _note(self, event: Mapping[str, Any], at: float) -> None:
        for choice in event["choices"]:
            new = choice.get("token_ids") or []
            if new:
                self.arrivals.append(at)
                if self.heard is not None:
                    self.heard(at)
                self.tokens.extend(map(int, new))
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
        if usage := event.get("usage"):
            self.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        self.metrics = event.get("metrics") or self.metrics

    def outcome(self, sent: float) -> Outcome:
        """What became of the request."""
        error = self.error
        if not error and self.done_s is None:
            error = _cut_off(self)
        if not error and len(self.tokens) != self.wanted:
            error = f"vLLM gave {len(self.tokens)} of {self.wanted} tokens (finish reason: {self.finish_reason or 'none'})"
        first = self.arrivals[0] if self.arrivals else None
        if error:
            return Outcome(sent, first, error=error)
        return Outcome(
            sent_s=sent,
            first_s=first,
            last_s=self.done_s,
            tokens=tuple(self.tokens),
            token_gaps_s=tuple(after - before for before, after in itertools.pairwise(self.arrivals)),
            cached_tokens=self.cached_tokens,
            queue_s=_seconds(self.metrics, "queue_time_ms"),
            prefill_s=_seconds(self.metrics, "time_to_first_token_ms"),  # vLLM counts it from scheduled to first token
        )


def _cut_off(stream: _Stream) -> str:
    return f"the server closed the stream after {len(stream.tokens)} of {stream.wanted} tokens"


def _said(data: bytes) -> str:
    """The beginning of a server's words, on one line."""
    text = " ".join(data.decode(errors="replace").split())
    return text if len(text) <= SAID else text[:SAID] + "..."


def _seconds(metrics: Mapping[str, Any], name: str) -> float | None:
    value = metrics.get(name)
    return float(value) / 1e3 if isinstance(value, int | float) else None
