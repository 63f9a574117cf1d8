"""LMCache's server mode: a process of its own holds the cache, vLLM's connector asks it (LMCacheMPConnector)."""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import Field

from harness.connector.peers.base import Peer, PeerOptions, Place
from harness.connector.peers.servers import answers, free_port, running

_ANSWER_S = 60.0
_NEVER_S = 86400.0
"""Between two heartbeats: a stopped pair of processes must not take each other for dead."""


class LMCacheServerOptions(PeerOptions):
    """As LMCache calls them if it has a name for them."""

    transfer: Literal["lmcache_driven", "engine_driven"] = Field(
        "lmcache_driven", description="mp_transfer_mode: whether the server or vLLM's worker moves the bytes"
    )
    workers: int = Field(1, ge=1, le=256, description="max_workers: threads of the server")
    cpu: bool = Field(False, description="keep what was loaded in the server's memory too, so that it is loaded only once")
    direct: bool = Field(False, description="use_odirect: past the page cache")
    staging_gib: float = Field(2.0, gt=0, description="l1_size_gb: the server's memory that all passes through")


class LMCacheServer(Peer):
    """LMCache 0.5.6 as a server on this machine, its file-system adapter in the peer's folder; has no layerwise mode."""

    name: ClassVar[str] = "lmcache-server"
    Options = LMCacheServerOptions
    package: ClassVar[str] = "lmcache"
    variables: ClassVar[str] = "LMCACHE_"

    def __init__(self, options: PeerOptions, place: Place) -> None:
        super().__init__(options, place)
        self._own = LMCacheServerOptions.model_validate(options.model_dump())

    @cached_property
    def port(self) -> int:
        """Where the server listens; the connector has to know it before the server starts."""
        return free_port()

    def transfer(self) -> dict[str, Any]:
        """The defaults of server and worker do not fit each other on a CPU, so both are given the way to move the bytes."""
        return {
            "kv_connector": "LMCacheMPConnector",
            "kv_role": "kv_both",
            "kv_connector_extra_config": {
                "lmcache.mp.host": "tcp://127.0.0.1",
                "lmcache.mp.port": self.port,
                "lmcache.mp.mp_transfer_mode": self._own.transfer,
                "lmcache.mp.mq_timeout": _ANSWER_S,
                "lmcache.mp.heartbeat_interval": _NEVER_S,
            },
        }

    @property
    def reads_past_cache(self) -> bool:
        """As the user says."""
        return self._own.direct

    def environment(self) -> Mapping[str, str]:
        """For vLLM's processes and for the server."""
        return {"PYTHONHASHSEED": "0", "LMCACHE_TRACK_USAGE": "false"}

    def request(self, *, save: bool) -> Mapping[str, Any]:
        """LMCache takes per request how many of a prompt's tokens it may save."""
        return {} if save else {"lmcache.max_offload_tokens": 0}

    def command(self) -> list[str]:
        """What starts the server."""
        own = self._own
        adapter = {"type": "fs", "base_path": str(self.place.folder), "use_odirect": own.direct}
        words = {
            "--host": "127.0.0.1",
            "--port": self.port,
            "--chunk-size": self.place.chunk_tokens,
            "--max-workers": own.workers,
            "--supported-transfer-mode": "auto",
            "--worker-reap-timeout-seconds": 0,
            "--l1-size-gb": own.staging_gib,
            "--l1-init-size-gb": 1,
            "--eviction-policy": "LRU",
            "--l2-adapter": json.dumps(adapter),
            "--l2-store-policy": "default" if own.cpu else "skip_l1",
            "--l2-prefetch-policy": "retain" if own.cpu else "default",
        }
        options = [str(word) for pair in words.items() for word in pair]
        return [sys.executable, "-P", "-m", "lmcache.v1.multiprocess.server", *options, "--disable-observability"]

    @contextlib.contextmanager
    def servers(self) -> Iterator[None]:
        """Its server. Raises SetupError if that does not start."""
        with running("LMCache's server", self.command(), lambda: answers(self.port), self.environment()):
            yield
