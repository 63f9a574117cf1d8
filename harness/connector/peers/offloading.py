"""vLLM's own OffloadingConnector: memory of the host as first tier, files as second (TieringOffloadingSpec)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from harness.connector.peers.base import Peer, PeerOptions, Place
from harness.core.errors import SetupError
from harness.core.machine import uses_gpu


class OffloadingOptions(PeerOptions):
    """As vLLM calls them if it has a name for them."""

    cpu_gib: float = Field(2.0, gt=0, description="cpu_bytes_to_use: the first tier, which all loads pass through and stay in")
    readers: int = Field(16, ge=1, le=256, description="n_read_threads of the second tier")
    writers: int = Field(16, ge=1, le=256, description="n_write_threads of the second tier")


class Offloading(Peer):
    """For GPUs only. What was loaded stays in the first tier: give it less memory than a run's hits need, or compare memory."""

    name: ClassVar[str] = "offloading"
    Options = OffloadingOptions

    def __init__(self, options: PeerOptions, place: Place) -> None:
        super().__init__(options, place)
        self._own = OffloadingOptions.model_validate(options.model_dump())

    def check(self) -> None:
        """In vLLM the refusal comes only after the model is loaded, in the log of a process."""
        if not uses_gpu():
            raise SetupError(
                f"the arm {self.name} needs a GPU: vLLM's OffloadingConnector supports CUDA and XPU only; remove the arm here"
            )

    def transfer(self) -> dict[str, Any]:
        """Chunks of as many tokens as ours; the second tier's files lie in the peer's folder."""
        tier = {
            "type": "fs",
            "root_dir": str(self.place.folder),
            "n_read_threads": self._own.readers,
            "n_write_threads": self._own.writers,
        }
        return {
            "kv_connector": "OffloadingConnector",
            "kv_role": "kv_both",
            "kv_connector_extra_config": {
                "spec_name": "TieringOffloadingSpec",
                "cpu_bytes_to_use": int(self._own.cpu_gib * 2**30),
                "block_size": self.place.chunk_tokens,
                "secondary_tiers": [tier],
            },
        }

    def environment(self) -> Mapping[str, str]:
        """Block hashes are Python's if no seed is set."""
        return {"PYTHONHASHSEED": "0"}

    def request(self, *, save: bool) -> Mapping[str, Any]:
        """It takes per request how many of a prompt's tokens it may save."""
        return {} if save else {"max_offload_tokens": 0}
