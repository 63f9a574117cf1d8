"""LMCache inside vLLM's processes: the mode that has both engines, chunkwise and layerwise."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from harness.connector.peers.base import Peer, PeerOptions, Place
from harness.core.errors import RunError, SetupError, UsageError
from harness.core.machine import uses_gpu

KEYS = "*@*@*@*@*"
"""What LMCache's keys in Redis look like: model, world size, worker, chunk's hash, type, and in layerwise mode the layer."""


class LMCacheOptions(PeerOptions):
    """As LMCache calls them if it has a name for them."""

    mode: Literal["chunkwise", "layerwise"] = Field("chunkwise", description="LMCache's engine (use_layerwise)")
    backend: Literal["disk", "fs", "redis"] = Field(
        "disk", description="disk: its local disk backend; fs: its file-system connector; redis: its Redis connector"
    )
    url: str = Field("", description="backend=redis: redis://HOST:PORT/DATABASE, an empty one")
    threads: int = Field(4, ge=1, le=256, description="backend=disk: disk_io_threads")
    asynchronous: bool = Field(False, description="enable_async_loading: loads between two steps")
    cpu: bool = Field(False, description="local_cpu: keep what was loaded in memory too, so that it is loaded only once")
    staging_gib: float = Field(2.0, gt=0, description="max_local_cpu_size: memory that loads pass through")

    @model_validator(mode="after")
    def _fit_the_backend(self) -> "LMCacheOptions":
        if self.backend == "redis" and not self.url.startswith(("redis://", "$")):
            raise ValueError("backend=redis needs url=redis://HOST:PORT, or url=$NAME of a variable that holds it")
        if self.url and self.backend != "redis":
            raise ValueError(f"backend={self.backend} has no server, so url does nothing; remove url or use backend=redis")
        return self


class LMCache(Peer):
    """LMCache 0.5.6 in vLLM's process. On a CPU with our adapter, since LMCache has no connector for CPU memory."""

    name = "lmcache"
    Options = LMCacheOptions
    package = "lmcache"
    variables = "LMCACHE_"

    def __init__(self, options: PeerOptions, place: Place) -> None:
        super().__init__(options, place)
        self._own = LMCacheOptions.model_validate(options.model_dump())

    @classmethod
    def parse(cls, spec: str) -> PeerOptions:
        """An option without effect would stand in the arm's name as if it had one. Raises UsageError."""
        parsed = LMCacheOptions.model_validate(super().parse(spec))
        if "threads" in parsed.model_fields_set and parsed.backend != "disk":
            raise UsageError(
                f"'{spec}': threads belongs to backend=disk, and does nothing with backend={parsed.backend}; remove threads"
            )
        return parsed

    def check(self) -> None:
        """As the base class; a variable that holds the URL has to be set."""
        super().check()
        if self._own.backend == "redis":
            self._url()

    def _url(self) -> str:
        """Of the server; the value of ``$NAME`` is never shown. Raises SetupError."""
        url = self._own.url
        if not url.startswith("$"):
            return url
        if not os.environ.get(url[1:]):
            raise SetupError(f"the arm lmcache needs the environment variable {url[1:]}; set it to redis://HOST:PORT")
        return os.environ[url[1:]]

    def transfer(self) -> dict[str, Any]:
        """On a GPU LMCache's own connector, on a CPU the adapter."""
        if uses_gpu():
            return {"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}
        return {
            "kv_connector": "LMCacheOnCPU",
            "kv_connector_module_path": "harness.connector.peers.adapters.lmcache_on_cpu",
            "kv_role": "kv_both",
        }

    def environment(self) -> Mapping[str, str]:
        """LMCache's configuration. Its chunk hash is Python's, so the processes need one seed."""
        own = self._own
        variables = {
            "PYTHONHASHSEED": "0",
            "LMCACHE_TRACK_USAGE": "false",
            "LMCACHE_CHUNK_SIZE": str(self.place.chunk_tokens),
            "LMCACHE_LOCAL_CPU": str(own.cpu),
            "LMCACHE_MAX_LOCAL_CPU_SIZE": str(own.staging_gib),
            "LMCACHE_USE_LAYERWISE": str(own.mode == "layerwise"),
            "LMCACHE_ENABLE_ASYNC_LOADING": str(own.asynchronous),
        }
        if own.backend == "disk":
            variables |= {
                "LMCACHE_LOCAL_DISK": f"file://{self.place.folder}/",
                "LMCACHE_MAX_LOCAL_DISK_SIZE": "1000",
                "LMCACHE_EXTRA_CONFIG": json.dumps({"disk_io_threads": own.threads}),
            }
        elif own.backend == "fs":
            variables["LMCACHE_REMOTE_URL"] = f"fs://localhost:0{self.place.folder}/"
        else:
            variables["LMCACHE_REMOTE_URL"] = self._url()
        return variables

    def request(self, *, save: bool) -> Mapping[str, Any]:
        """LMCache takes per request whether to save: as text, since its asynchronous lookup takes no bool."""
        return {} if save else {"lmcache.skip_save": "true"}

    @contextlib.contextmanager
    def servers(self) -> Iterator[None]:
        """None of its own, but a Redis database is to be empty before, as a folder would be, and is emptied afterwards.

        Raises SetupError if it is not, or nobody answers: LMCache would go on without hits. RunError if keys stay.
        """
        if self._own.backend != "redis":
            yield
            return
        from redis import Redis
        from redis.exceptions import RedisError

        with Redis.from_url(self._url()) as server:
            try:
                keys = server.dbsize()
            except RedisError as error:
                raise SetupError(f"the arm lmcache finds no Redis server at its url ({type(error).__name__}); start it") from None
            if keys:
                raise SetupError(
                    f"the Redis database of the arm lmcache holds {keys} keys already; name an empty one for each such arm, "
                    "as redis://HOST:PORT/7"
                )
            try:
                yield
            finally:
                _remove_keys(server)


def _remove_keys(server: Any) -> None:
    """What looks like LMCache's, key by key: somebody else may have begun to use the database in the meantime."""
    from redis.exceptions import RedisError

    try:
        for key in server.scan_iter(match=KEYS, count=1000):
            server.unlink(key)
    except RedisError as error:
        raise RunError(
            f"what the arm lmcache wrote may stay in the Redis server, which fails ({type(error).__name__}); "
            f"remove what redis-cli -n DATABASE --scan --pattern '{KEYS}' lists"
        ) from None
