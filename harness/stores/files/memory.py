"""``mem://name``: objects in memory that the processes of one machine share, as files of /dev/shm.

They stay until they are deleted or the machine restarts.
"""

import re
from pathlib import Path
from typing import ClassVar
from urllib.parse import SplitResult

from harness.core.errors import StoreUnavailable, UsageError
from harness.core.text import redact
from harness.stores.base import StoreOptions, unsplit
from harness.stores.files.directory import DirectoryStore

_NAME = re.compile(r"[A-Za-z0-9.-]{1,100}")


class MemoryStore(DirectoryStore):
    """One file an object, in ``/dev/shm/ttft-<name>``."""

    name = "mem"
    shared_memory: ClassVar[Path] = Path("/dev/shm")
    """Where Linux keeps files in memory."""

    @classmethod
    def directory_of(cls, url: SplitResult) -> Path:
        """Of the name. Raises UsageError."""
        if not _NAME.fullmatch(url.netloc) or url.path.strip("/") or url.fragment:
            shown = redact(unsplit(url))
            raise UsageError(f"'{shown}' names no memory store; write mem://name, of letters, digits, dots and dashes")
        return cls.shared_memory / f"ttft-{url.netloc}"

    def __init__(self, url: SplitResult, options: StoreOptions) -> None:
        """Open. Raises UsageError for a bad name, StoreUnavailable where there is no shared memory."""
        if not self.shared_memory.is_dir():
            raise StoreUnavailable(f"mem stores need {self.shared_memory}, which is not here; use file:///path instead")
        super().__init__(url, options)
