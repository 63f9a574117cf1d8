"""Objects as files: ``file://``, ``mem://`` and ``aiofile://``, over one directory of files."""

from harness.stores.files.aiofile import AioFileStore
from harness.stores.files.disk import DiskStore
from harness.stores.files.memory import MemoryStore

__all__ = ["AioFileStore", "DiskStore", "MemoryStore"]
