"""Where chunks are kept. One file or folder per store; ``base.py`` is the contract."""

from harness.core.registry import Registry
from harness.stores.base import Store, open_store

STORES: Registry[Store] = Registry("store", "harness.stores", Store)  # type: ignore[type-abstract]

__all__ = ["STORES", "Store", "open_store"]
