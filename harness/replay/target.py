"""A running server as the harness finds it: its address, its version, its model, and what ttft serve tells."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from harness.core.errors import RunError, SetupError
from harness.replay.server.about import PATH, About, parse
from harness.replay.target_url import KEYS

LOOKUP_S = 20.0
LOOKUP_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Target:
    """``model``: the name by which requests ask for it. ``about``: None where the server was not started by ttft serve.

    Of a server that is no vLLM ``version`` may be empty and ``max_model_len``, its longest context in tokens, 0: not known.
    """

    url: str
    version: str
    model: str
    max_model_len: int
    about: About | None


def key_header(variable: str = "") -> dict[str, str]:
    """The header that carries the key, of this environment variable or of KEYS; empty where none of KEYS is set.

    Raises SetupError where ``variable`` is not set; it is not repeated, as it may be the key itself.
    """
    if variable and not os.environ.get(variable):
        raise SetupError("the environment variable that key= names is not set; set it to the server's key, or leave key= out")
    key = next((os.environ[name] for name in ([variable] if variable else KEYS) if os.environ.get(name)), "")
    return {"Authorization": f"Bearer {key}"} if key else {}


async def look_up(http: aiohttp.ClientSession, url: str) -> Target:
    """What the server says of itself. Raises SetupError: unreachable, no vLLM, a wrong key."""
    version = (await look_up_json(http, url, "/version")).get("version")
    if not isinstance(version, str):
        raise SetupError(f"the server at {url} is no vLLM: its /version tells none")
    name, longest = _first_model(url, await look_up_json(http, url, "/v1/models"))
    told = await look_up_json(http, url, PATH, optional=True)
    try:
        return Target(url, version, name, longest, parse(told) if told else None)
    except RunError as error:
        raise SetupError(str(error)) from error


def _first_model(url: str, models: Mapping[str, Any]) -> tuple[str, int]:
    """Its name and its longest context in tokens, which only vLLM tells."""
    try:
        model = models["data"][0]
        return str(model["id"]), int(model["max_model_len"])
    except (TypeError, KeyError, IndexError, ValueError, OverflowError):
        raise SetupError(f"the server at {url} is no vLLM: its /v1/models names no model with a max_model_len") from None


async def look_up_json(
    http: aiohttp.ClientSession, url: str, path: str, optional: bool = False, what: str = "vLLM"
) -> Mapping[str, Any]:
    """One JSON object. ``optional``: a 404 is an empty answer. ``what``: the server ought to be. Raises SetupError."""
    try:
        async with http.get(url + path, timeout=aiohttp.ClientTimeout(total=LOOKUP_S), allow_redirects=False) as answer:
            if answer.status in (401, 403):
                raise SetupError(
                    f"the server at {url} refuses the key (it answers {answer.status}); "
                    f"set {KEYS[0]} to the one that it was started with"
                )
            if answer.status == 404 and optional:
                return {}
            if answer.status != 200:
                raise SetupError(f"the server at {url} is no {what}, or not ready: {path} answers {answer.status}")
            found = json.loads(await beginning(answer, LOOKUP_BYTES))
    except TimeoutError as error:
        raise SetupError(
            f"the server at {url} does not answer {path} within {LOOKUP_S:.0f} s; is it {what}, and awake?"
        ) from error
    except aiohttp.ClientConnectorCertificateError:
        raise  # a SetupError needs the names in the certificate, which are asked for once
    except (aiohttp.ClientError, OSError) as error:
        raise SetupError(f"the server at {url} cannot be reached ({reason_of(error)}); start one with: ttft serve") from error
    except (ValueError, RecursionError) as error:
        raise SetupError(f"the server at {url} is no {what}: its {path} is not JSON") from error
    if not isinstance(found, dict):
        raise SetupError(f"the server at {url} is no {what}: its {path} is not an object")
    return found


async def beginning(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    """An answer's body, or its first ``limit`` bytes and some; if there is more, the connection is closed."""
    data = bytearray()
    while len(data) < limit and (piece := await answer.content.readany()):
        data += piece
    if not answer.content.at_eof():
        answer.close()
    return bytes(data)


def reason_of(error: BaseException) -> str:
    """The operating system's word where there is one: aiohttp repeats the address, which the sentence has already."""
    inner = getattr(error, "os_error", None) or error
    number = getattr(inner, "errno", None) or 0
    known = os.strerror(number) if number > 0 else getattr(inner, "strerror", None)
    return known or str(inner) or type(inner).__name__
