"""vLLM's ExampleConnector: the reference connector that comes with vLLM, one safetensors file per layer, blocking."""

from typing import Any, ClassVar

from harness.connector.peers.base import Peer


class Example(Peer):
    """It hits only a prompt that it has seen as a whole, up to the last whole block: suffixes must fit into a block."""

    name: ClassVar[str] = "example"

    @property
    def primes_prompts(self) -> bool:
        """It looks for the hash of the whole prompt."""
        return True

    def transfer(self) -> dict[str, Any]:
        """Its files lie in the peer's folder."""
        return {
            "kv_connector": "ExampleConnector",
            "kv_role": "kv_both",
            "kv_connector_extra_config": {"shared_storage_path": str(self.place.folder)},
        }
