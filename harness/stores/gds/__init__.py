"""``gds:///path``: the files of ``file://``, read by KvikIO into GPU memory: GPUDirect Storage, or POSIX reads and a copy."""

from harness.stores.gds.store import GdsStore

__all__ = ["GdsStore"]
