"""What the stores of files say when one cannot be read or written: one sentence with the path and the fix."""

import errno
import os
from pathlib import Path

from harness.core.errors import ChunkMissing, ChunkTruncated, StoreUnavailable
from harness.stores.base import Read

_FIXES = {
    errno.ENOSPC: "free some space there, or name a store with more room",
    errno.EDQUOT: "free some space there, or have the quota raised",
    errno.EACCES: "name a path that this user may write",
    errno.EPERM: "name a path that this user may write",
    errno.EROFS: "name a path on a file system that is not read-only",
    errno.EEXIST: "name a path that is a directory, or nothing yet",
    errno.ENOTDIR: "name a path that is a directory, or nothing yet",
    errno.EMFILE: "raise the limit of open files with ulimit -n",
}


def missing(key: str, path: str) -> ChunkMissing:
    """The error for a key without an object."""
    return ChunkMissing(f"there is no object {key}: {path} does not exist; write it first, or prime the store again")


def truncated(item: Read, done: int) -> ChunkTruncated:
    """The error for a read of which only ``done`` bytes are there."""
    wanted = item.offset + item.length
    return ChunkTruncated(f"object {item.key} ends after {item.offset + done} bytes, {wanted} were asked for; delete it")


def unavailable(doing: str, path: str | Path, error: OSError) -> StoreUnavailable:
    """``error`` as one sentence with the path and what to do."""
    fix = _FIXES.get(error.errno or 0, "name another path, or look into the file system's log")
    return StoreUnavailable(f"cannot {doing} at {path}: {error.strerror}; {fix}")


def names_in(path: Path) -> list[str]:
    """What a directory holds: nothing if it is gone, or is none. Raises StoreUnavailable."""
    try:
        return os.listdir(path)  # noqa: PTH208 - names are all that is needed
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise unavailable("list the objects", path, error) from None
