"""A running vLLM server through its OpenAI-compatible API: token ids in, a stream of tokens out."""

import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import aiohttp

from harness.replay.event_stream import EventStream, said
from harness.replay.outcome import Outcome
from harness.replay.target import Target, beginning, key_header, look_up, reason_of
from harness.replay.target_tls import trusted

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
        stream = EventStream(output_tokens, time.perf_counter(), self._silence_s, heard)
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
        except ValueError as error:
            stream.error = f"the server's stream cannot be read: {error}"
        return stream.outcome()

    def close(self) -> None:
        """Nothing: ``connected`` closes what it opened."""


@contextlib.asynccontextmanager
async def connected(url: str, silence_s: float, authority: str = "") -> AsyncIterator[HttpEngine]:
    """A client of the server at ``url``. ``authority``: the PEM file of who signed its certificate; empty: the system's.

    Raises SetupError or UsageError.
    """
    tls = trusted(url, authority)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=silence_s)
    connector = aiohttp.TCPConnector(ssl=tls or True, limit=0, keepalive_timeout=KEEP_ALIVE_S)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, headers=key_header(), read_bufsize=LINE_BYTES, cookie_jar=aiohttp.DummyCookieJar()
    ) as http:
        yield HttpEngine(http, await look_up(http, url, authority), silence_s)


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
