"""vLLM's MooncakeStoreConnector against a Mooncake cluster of its own: a master, and a storage client with the memory."""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from harness.connector.peers.base import Peer, PeerOptions, Place
from harness.connector.peers.servers import answers, free_port, running
from harness.core.errors import SetupError
from harness.core.machine import uses_gpu
from harness.stores.mooncake.client import load

WITH_CUDA = "mooncake-transfer-engine"
WITHOUT_CUDA = "mooncake-transfer-engine-non-cuda"
_NEVER_S = 86400
"""A stopped client must not count as dead: what it holds would be gone."""


class MooncakeStoreOptions(PeerOptions):
    """Of the cluster and of vLLM's client."""

    protocol: Literal["tcp", "rdma"] = Field("tcp", description="how bytes move, also between two processes of a machine")
    devices: str = Field("", description="protocol=rdma: names of the devices, with commas; empty: Mooncake chooses")
    memory_gib: float = Field(4.0, gt=0, description="memory of the storage client, where all that is stored lies")
    buffer_gib: float = Field(1.0, gt=0, description="local_buffer_size: memory that vLLM's transfers pass through")


class MooncakeStorePeer(Peer):
    """Nothing lies on a disk, and every request saves: suffixes must be shorter than a block of vLLM's."""

    name: ClassVar[str] = "mooncake-store"
    Options = MooncakeStoreOptions
    package: ClassVar[str] = WITH_CUDA if uses_gpu() else WITHOUT_CUDA
    variables: ClassVar[str] = "MOONCAKE_"

    def __init__(self, options: PeerOptions, place: Place) -> None:
        super().__init__(options, place)
        self._own = MooncakeStoreOptions.model_validate(options.model_dump())

    @cached_property
    def ports(self) -> tuple[int, int, int]:
        """Of the master, of its HTTP server, and of the storage client."""
        return free_port(), free_port(), free_port()

    @property
    def config_file(self) -> Path:
        """Not in the peer's folder, whose files count as what is stored."""
        return self.place.folder.with_name(self.place.folder.name + "-mooncake.json")

    def check(self) -> None:
        """Raises SetupError if Mooncake's package is missing, does not load, or cannot reach the memory of KV cache."""
        if uses_gpu():
            try:
                version(WITH_CUDA)
            except PackageNotFoundError:
                raise SetupError(
                    f"the arm {self.name} needs the package {WITH_CUDA}, since {WITHOUT_CUDA} reaches no GPU's memory; "
                    f"install it in place of the other: pip install '{WITH_CUDA}==0.3.13.post1'"
                ) from None
        load()

    def transfer(self) -> dict[str, Any]:
        """All else stands in the file that the environment names."""
        return {"kv_connector": "MooncakeStoreConnector", "kv_role": "kv_both"}

    def environment(self) -> Mapping[str, str]:
        """Block hashes are Python's if no seed is set."""
        return {
            "PYTHONHASHSEED": "0",
            "MOONCAKE_CONFIG_PATH": str(self.config_file),
            "MOONCAKE_REQUESTER_LOCAL_HOSTNAME": "127.0.0.1",
        }

    def configuration(self) -> dict[str, Any]:
        """The client in vLLM lends no memory: a process of its own does, as in a cluster."""
        return {
            "mode": "standalone-store",
            "metadata_server": "P2PHANDSHAKE",
            "master_server_address": f"127.0.0.1:{self.ports[0]}",
            "protocol": self._own.protocol,
            "device_name": self._own.devices,
            "global_segment_size": 0,
            "local_buffer_size": int(self._own.buffer_gib * 2**30),
        }

    def commands(self) -> tuple[list[str], list[str]]:
        """What starts the master, and the storage client."""
        port, admin_port, storage_port = self.ports
        own = self._own
        master = [sys.executable, "-P", "-m", "mooncake.cli", "--rpc_address=127.0.0.1", f"--rpc_port={port}"]
        master += ["--metrics_host=127.0.0.1", f"--metrics_port={admin_port}", f"--client_ttl={_NEVER_S}"]
        storage = [sys.executable, "-P", "-m", "mooncake.cli_client", "--host=127.0.0.1", f"--port={storage_port}"]
        storage += ["--metadata_server=P2PHANDSHAKE", f"--master_server_address=127.0.0.1:{port}"]
        storage += [f"--protocol={own.protocol}", f"--global_segment_size={int(own.memory_gib * 1024)}MB"]
        return master, [*storage, f"--device_names={own.devices}"] if own.devices else storage

    @contextlib.contextmanager
    def servers(self) -> Iterator[None]:
        """Master and storage client. Raises SetupError if one does not start."""
        (port, admin_port, storage_port), (master, storage) = self.ports, self.commands()
        self.config_file.write_text(json.dumps(self.configuration()), encoding="utf-8")
        try:
            with (
                running("Mooncake's master", master, lambda: answers(port) and answers(admin_port)),
                running("Mooncake's storage client", storage, lambda: answers(storage_port)),
            ):
                yield
        finally:
            self.config_file.unlink(missing_ok=True)
