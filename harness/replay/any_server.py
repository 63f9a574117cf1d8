"""A server with an OpenAI-compatible API and no connector of ours: what it tells, its caches emptied, what it counts as hits."""

import aiohttp

from harness.core.errors import SetupError
from harness.replay.prometheus import failed_blocks, total
from harness.replay.server.about import PATH
from harness.replay.target import LOOKUP_BYTES, Target, beginning, look_up_json

API = "OpenAI-compatible server"
HITS = ("vllm:prefix_cache_hits_total", "vllm:external_prefix_cache_hits_total", "sglang:cached_tokens_total")
"""Counters of prompt tokens that hit: vLLM's own cache, what a KV connector brought, and SGLang's of all kinds."""
RESETS = ("/reset_prefix_cache", "/flush_cache")
"""Paths that empty a server's cache: vLLM's (with VLLM_SERVER_DEV_MODE=1), SGLang's."""
RESET_S = 20.0


async def look_up_any(http: aiohttp.ClientSession, url: str) -> Target:
    """What the server says of itself. Raises SetupError: unreachable, no such API, a wrong key."""
    models = await look_up_json(http, url, "/v1/models", what=API)
    try:
        version = (await look_up_json(http, url, "/version", optional=True)).get("version")
    except SetupError:  # not vLLM's
        version = None
    try:
        model = models["data"][0]
        longest = model.get("max_model_len")
        known = longest if isinstance(longest, int) and longest > 0 else 0
        return Target(url, version if isinstance(version, str) else "", str(model["id"]), known, None)
    except (TypeError, KeyError, IndexError, AttributeError):
        raise SetupError(f"the server at {url} is no {API}: its /v1/models names no model") from None


async def serves_our_connector(http: aiohttp.ClientSession, url: str) -> bool:
    """Whether the server says that it has our connector. Raises SetupError if it cannot be reached."""
    if await look_up_json(http, url, PATH, optional=True):
        return True
    return await failed_blocks(http, url) is not None


async def counted_hits(http: aiohttp.ClientSession, url: str) -> float | None:
    """Prompt tokens that hit since the server started, for all its clients, as /metrics says; None if it does not."""
    return await total(http, url, HITS)


async def find_reset(http: aiohttp.ClientSession, url: str) -> str:
    """The path by which this server empties its cache, which is empty now; empty if it has none."""
    for path in RESETS:
        if await _reset(http, url + path) == "":
            return path
    return ""


async def reset(http: aiohttp.ClientSession, url: str, path: str) -> str:
    """Empty the cache by ``path``; why it could not be, or nothing."""
    return await _reset(http, url + path)


async def _reset(http: aiohttp.ClientSession, address: str) -> str:
    try:
        timeout = aiohttp.ClientTimeout(total=RESET_S)
        async with http.post(address, timeout=timeout, allow_redirects=False) as answer:
            if answer.status != 200:
                return f"it answers {answer.status}"
            told = (await beginning(answer, LOOKUP_BYTES)).decode(errors="replace")
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        return str(error) or type(error).__name__
    # vLLM answers 200 also where blocks are still held, and says so in the body.
    return "blocks are still held" if '"success":false' in told.replace(" ", "").lower() else ""
