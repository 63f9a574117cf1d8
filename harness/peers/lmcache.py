"""LMCache inside vLLM's processes: the mode that has both engines, chunkwise and layerwise."""

import json
import os
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from harness.errors import SetupError
from harness.machine import nvidia_driver
from harness.peers.base import Peer, PeerOptions, Place


class LMCacheOptions(PeerOptions):
    """As LMCache calls them where it has a name for them."""

    mode: Literal["chunkwise", "layerwise"] = Field("chunkwise", description="LMCache's engine (use_layerwise)")
    backend: Literal["disk", "fs", "redis"] = Field(
        "disk", description="disk: its local disk backend; fs: its file-system connector; redis: its Redis connector"
    )
    url: str = Field("", description="backend=redis: redis://HOST:PORT of the server")
    threads: int = Field(4, ge=1, le=256, description="backend=disk: disk_io_threads")
    asynchronous: bool = Field(False, description="enable_async_loading: loads between two steps")
    cpu: bool = Field(False, description="local_cpu: keep what was loaded in memory too, so that it is loaded only once")
    staging_gib: float = Field(2.0, gt=0, description="max_local_cpu_size: memory that loads pass through")


class LMCache(Peer):
    """LMCache 0.5.6 in process. On a CPU with an adapter of ours, since LMCache has no connector for CPU memory."""

    name = "lmcache"
    Options = LMCacheOptions
    package = "lmcache"

    def __init__(self, options: PeerOptions, place: Place) -> None:
        super().__init__(options, place)
        self._own = LMCacheOptions.model_validate(options.model_dump())

    def check(self) -> None:
        """As the base class; ``backend=redis`` needs a URL."""
        super().check()
        if self._own.backend == "redis" and not self._own.url.startswith(("redis://", "$")):
            raise SetupError(
                "the arm lmcache:backend=redis needs url=redis://HOST:PORT, or url=$NAME of a variable that holds it"
            )

    def transfer(self) -> dict[str, Any]:
        """On a GPU LMCache's own connector, on a CPU the adapter."""
        if nvidia_driver() is not None:
            return {"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}
        return {
            "kv_connector": "LMCacheOnCPU",
            "kv_connector_module_path": "harness.peers.adapters.lmcache_on_cpu",
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
            variables["LMCACHE_REMOTE_URL"] = os.environ.get(own.url.removeprefix("$"), own.url)
        return variables

    def request(self, *, save: bool) -> Mapping[str, Any]:
        """LMCache can be told a request's fate."""
        return {} if save else {"lmcache.skip_save": True}
