"""Other KV connectors of vLLM as arms: each runs in a vLLM of its own, beside ours in one job. One file per peer."""

from harness.connector.peers.base import Peer
from harness.core.registry import Registry

PEERS: Registry[Peer] = Registry("peer", "harness.connector.peers", Peer)  # type: ignore[type-abstract]
"""By name; a package adds its own by the entry point group ``ttft.peers``."""
