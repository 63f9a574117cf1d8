"""A running server through its OpenAI-compatible API: token ids in, a stream of tokens out."""

import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import aiohttp
from aiohttp.http_exceptions import LineTooLong

from harness.replay.any_server import look_up_any
from harness.replay.event_stream import EventStream, said
from harness.replay.outcome import Outcome
from harness.replay.target import Target, beginning, key_header, look_up, reason_of
from harness.replay.target_tls import distrust, trusted

CONNECT_S = 10.0
KEEP_ALIVE_S = 4.0
"""Shorter than the 5 s after which vLLM closes an idle connection: a request must not meet that moment."""
LINE_BYTES = 16 * 2**20
"""The longest line of a stream: the first one repeats the prompt's token ids."""
ANSWER_BYTES = 256 * 2**20
"""The longest answer."""
REFUSAL_BYTES = 2**16


class HttpEngine:
    """Sends requests to one server. Use ``connected``."""

    def __init__(self, http: aiohttp.ClientSession, target: Target, silence_s: float, any_server: bool = False) -> None:
        """``silence_s``: a stream that says nothing for so long has failed. ``any_server``: it has no connector of ours, and
        may answer in text."""
        self._http = http
        self._any = any_server
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
        body = _body(self.target.model, tokens, output_tokens, None if self._any else params)
        headers = {"Content-Type": "application/json", "X-Request-Id": f"{self._nonce}-{request_id}"}
        stream = EventStream(output_tokens, time.perf_counter(), self._silence_s, heard, self._any)
        try:
            async with self._http.post(
                f"{self.target.url}/v1/completions", data=body, headers=headers, allow_redirects=False
            ) as answer:
                if answer.status != 200:
                    stream.error = f"the server answered {answer.status}: {said(await beginning(answer, REFUSAL_BYTES))}"
                else:
                    await _follow(answer, stream)
        except aiohttp.ConnectionTimeoutError:
            stream.error = f"the server did not accept a connection within {CONNECT_S:g} s"
        except TimeoutError:
            stream.error = stream.silent()
        except aiohttp.ClientConnectorError as error:
            stream.error = f"the server cannot be reached: {reason_of(error)}"
        except (aiohttp.ClientError, OSError) as error:
            stream.error = f"{stream.cut_off()} ({type(error).__name__})"
        except LineTooLong:  # no ClientError
            stream.error = f"the server's stream cannot be read: a line of it is longer than {LINE_BYTES // 2**20} MiB"
        except ValueError as error:
            stream.error = f"the server's stream cannot be read: {error}"
        return stream.outcome()

    def close(self) -> None:
        """Nothing: ``connected`` closes what it opened."""


@contextlib.asynccontextmanager
async def connected(url: str, silence_s: float, authority: str = "") -> AsyncIterator[HttpEngine]:
    """A client of the server at ``url``, which is a vLLM with our connector.

    ``authority``: the PEM file of who signed its certificate; empty: the system's. Raises SetupError or UsageError.
    """
    async with _client(url, silence_s, authority) as http:
        yield HttpEngine(http, await _trusting(look_up(http, url), url, authority), silence_s)


@contextlib.asynccontextmanager
async def connected_to_any(url: str, silence_s: float, key: str = "", authority: str = "") -> AsyncIterator[HttpEngine]:
    """A client of any server at ``url``. ``key``: the environment variable with its key; ``authority`` as for ``connected``.

    Raises SetupError or UsageError.
    """
    async with _client(url, silence_s, authority, key) as http:
        yield HttpEngine(http, await _trusting(look_up_any(http, url), url, authority), silence_s, any_server=True)


async def _trusting(looking_up: Awaitable[Target], url: str, authority: str) -> Target:
    """What the look-up finds. Raises SetupError for a certificate that ``authority`` did not sign, too."""
    try:
        return await looking_up
    except aiohttp.ClientConnectorCertificateError as error:
        raise await distrust(url, error, authority) from None


def _client(url: str, silence_s: float, authority: str, key: str = "") -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=trusted(url, authority) or True, limit=0, keepalive_timeout=KEEP_ALIVE_S),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=silence_s),
        headers=key_header(key),
        read_bufsize=LINE_BYTES,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def _follow(answer: aiohttp.ClientResponse, stream: EventStream) -> None:
    """Read the answer to its end, or the connection could not be used again; close it where that makes no sense."""
    size = 0
    async for line in answer.content:
        size += len(line)
        if size > ANSWER_BYTES:
            stream.error = f"the server's answer is longer than {ANSWER_BYTES // 2**20} MiB"
        if stream.error or not stream.take(line, time.perf_counter()):
            answer.close()
            return


def _body(model: str, tokens: Sequence[int], output_tokens: int, params: Mapping[str, Any] | None) -> bytes:
    """``params``: of our connector; None for a server without it, which is asked to count its tokens in every event."""
    ours = {"stream_options": {"include_usage": True}, "kv_transfer_params": dict(params or {})}
    any_server = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    return json.dumps(
        {
            "model": model,
            "prompt": list(tokens),
            "max_tokens": output_tokens,
            "temperature": 0,
            "repetition_penalty": 1.0,  # a server may have defaults of its own, from the model's generation_config.json
            "ignore_eos": True,
            "stream": True,
            "return_token_ids": True,
            **(any_server if params is None else ours),
        },
        separators=(",", ":"),
    ).encode()
