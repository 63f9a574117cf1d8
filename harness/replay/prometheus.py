"""The samples that matter of what vLLM tells at ``/metrics``, while its requests are measured."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from harness.replay.target import beginning

LARGEST = 2**53
"""From here on a float is not exact, and a count does not grow by one."""
EVERY_S = 5.0
PATIENCE_S = 10.0
ANSWER_BYTES = 2**25

_HISTOGRAMS = ("time_to_first_token_seconds", "request_queue_time_seconds", "request_prefill_time_seconds")
FAILED_BLOCKS = "vllm:ttft_failed_load_blocks_total"
"""Blocks that our connector could not load (harness/connector/counts.py); a server without it does not count them."""
CHOICES = "vllm:ttft_choices_total"
"""Requests by how an arm that chooses loaded them, with the labels ``arm`` and ``how``."""

STORE_SKIPS = "vllm:ttft_store_skips_total"
"""Times that a process began to skip a store that kept failing."""

STORE_SKIPPING = "vllm:ttft_store_skipping"
"""Processes that skip the store now."""

NAMES = (
    FAILED_BLOCKS,
    CHOICES,
    STORE_SKIPS,
    STORE_SKIPPING,
    "vllm:external_prefix_cache_queries_total",
    "vllm:external_prefix_cache_hits_total",
    "vllm:prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total",
    "sglang:cached_tokens_total",
    "vllm:num_preemptions_total",
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    *(f"vllm:{name}_{part}" for name in _HISTOGRAMS for part in ("sum", "count")),
)
"""Samples that are kept; a histogram's buckets are not."""

BUSY = ("vllm:num_requests_running", "vllm:num_requests_waiting")

_STARTS = tuple(f"{name}{end}" for name in NAMES for end in ("{", " "))

Row = Mapping[str, object]


def samples(text: str, at: float) -> list[Row]:
    """Rows of metrics.csv from one answer of ``/metrics``. Raises ValueError where it is not Prometheus' text format."""
    # Two thousand lines are mostly buckets: to look at their beginnings is a hundred times cheaper than to parse them.
    kept = "\n".join(line for line in text.splitlines() if line.startswith(_STARTS))
    try:
        families = list(text_string_to_metric_families(kept + "\n"))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:  # what the parser raises for some bad lines
        raise ValueError(f"its metrics are not in Prometheus' text format ({type(error).__name__})") from error
    return [
        {
            "time_s": at,
            "name": sample.name,
            "labels": ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items())),
            "value": sample.value,
        }
        for family in families
        for sample in family.samples
    ]


async def failed_blocks(http: aiohttp.ClientSession, url: str) -> float | None:
    """Blocks that the server's connector could not load since it started, for all its clients; None where nobody counts them."""
    return await total(http, url, [FAILED_BLOCKS])


async def total(http: aiohttp.ClientSession, url: str, names: Sequence[str]) -> float | None:
    """The sum of all samples of these names at the server's /metrics; None if it has none of them, or cannot be asked, or
    if one more would not show in what it says."""
    try:
        async with http.get(f"{url}/metrics", timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as answer:
            text = (await beginning(answer, ANSWER_BYTES)).decode(errors="replace")
            rows = samples(text, 0.0) if answer.status == 200 else []
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
        return None
    found = [float(str(row["value"])) for row in rows if row["name"] in names]
    return sum(found) if found and all(0 <= value < LARGEST for value in found) else None


class Scraper:
    """Asks a server for its metrics; what it could not get, it notes and goes on."""

    def __init__(self, http: aiohttp.ClientSession, url: str, write: Callable[[Sequence[Row]], None]) -> None:
        """``write`` takes the rows of one answer."""
        self._http = http
        self._url = f"{url}/metrics"
        self._write = write
        self.errors: list[str] = []
        self.others: float | None = None
        """Requests that the server was at when it was first asked, which was before ours; None where it did not say."""

    @contextlib.asynccontextmanager
    async def during(self, every_s: float = EVERY_S) -> AsyncIterator[None]:
        """Ask before the body, every ``every_s`` seconds meanwhile, and after it."""
        await self._scrape()
        task = asyncio.create_task(self._again(every_s))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._scrape()

    async def _again(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            await self._scrape()

    async def _scrape(self) -> None:
        at = time.time()
        try:
            async with self._http.get(self._url, timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as answer:
                if answer.status != 200:
                    raise ValueError(f"the server answered {answer.status}")
                rows = samples((await beginning(answer, ANSWER_BYTES)).decode(errors="replace"), at)
        except TimeoutError:
            self.errors.append(f"no answer within {PATIENCE_S:.0f} s")
            return
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self.errors.append(str(error) or type(error).__name__)
            return
        if self.others is None:
            self.others = sum(float(str(row["value"])) for row in rows if row["name"] in BUSY)
        self._write(rows)
