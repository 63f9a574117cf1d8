"""``mooncake://master:port``: Mooncake Store, the memory of many machines as one store."""

from harness.stores.mooncake.store import MooncakeStore

__all__ = ["MooncakeStore"]
