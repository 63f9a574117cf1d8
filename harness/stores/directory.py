"""Objects as files of one directory: what ``disk.py`` and ``memory.py`` have in common. Linux only.

An object lies at ``<root>/<first two letters of the key>/<key>.kv``. A file that is not under such a
name is no object, so that half-written temporary files are never seen.
"""

import errno
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import SplitResult
from uuid import uuid4

from harness.errors import ChunkMissing, ChunkTruncated, StoreUnavailable, UsageError
from harness.stores.base import Buffer, Read, Store, StoreOptions, each_read
from harness.stores.page_cache import PAGE, resident_pages

_KEY = re.compile(r"[A-Za-z0-9._-]{1,200}")
_SUFFIX = ".kv"
_IOV_MAX = 1024  # the most buffers Linux takes in one preadv or writev
_CREATE_TRIES = 100

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


class DirectoryStore(Store):
    """A store over a directory. Reads open the file each time.

    Opening and closing costs about 5 µs, against 80 µs for half a MiB from the page cache; a kept
    descriptor would have to be checked (2 µs) to notice that its object was replaced or deleted.
    """

    def __init__(self, url: SplitResult, options: StoreOptions, root: Path) -> None:
        """Make ``root`` and prove that it can be written. Raises StoreUnavailable."""
        super().__init__(url, options)
        self.root = root
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=root):
                pass
        except OSError as error:
            raise unavailable("open the store", root, error) from None

    def exists(self, keys: Sequence[str]) -> int:
        """One stat a key, up to the first that is missing."""
        for position, key in enumerate(keys):
            path = self._path(key)
            try:
                os.stat(path)  # noqa: PTH116 - half the time of Path.stat
            except FileNotFoundError:
                return position
            except OSError as error:
                raise unavailable("look for the object", path, error) from None
        return len(keys)

    def read(self, reads: Sequence[Read]) -> None:
        """One preadv a read, as long as it has at most 1,024 buffers and is below 2 GiB."""
        each_read(reads, self._read_one)

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        """Write a temporary file beside the object, then rename it."""
        path = self._path(key)
        temporary = f"{path}.{uuid4().hex}.tmp"
        try:
            descriptor = self._create(temporary)
            try:
                self._fill(descriptor, parts)
            finally:
                os.close(descriptor)
            Path(temporary).replace(path)
            self._published(path)
        except OSError as error:
            raise unavailable("write the object", path, error) from None
        finally:
            with suppress(OSError):  # published, or never there
                Path(temporary).unlink()

    def delete(self, keys: Iterable[str]) -> None:
        """Unlink the files, and the directories that hold nothing after that. Reads under way finish."""
        directories = set()
        for key in keys:
            path = Path(self._path(key))
            try:
                path.unlink()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise unavailable("delete the object", path, error) from None
            directories.add(path.parent)
        for directory in directories:
            with suppress(OSError):  # not empty
                directory.rmdir()

    def keys(self) -> Iterator[str]:
        """Walks the directory; objects that come or go meanwhile may be in it or not."""
        for directory in self.root.iterdir():
            if not directory.is_dir():
                continue
            for path in directory.glob(f"*{_SUFFIX}"):
                key = path.name.removesuffix(_SUFFIX)
                if _KEY.fullmatch(key) and _folder(key) == directory.name:
                    yield key

    def size(self, key: str) -> int:
        """Length of the file."""
        path = self._path(key)
        try:
            return Path(path).stat().st_size
        except FileNotFoundError:
            raise missing(key, path) from None
        except OSError as error:
            raise unavailable("look at the object", path, error) from None

    def cached_fraction(self, keys: Iterable[str]) -> float | None:
        """In whole pages of memory; None where the kernel does not say, or there are no bytes."""
        resident = pages = 0
        for key in keys:
            descriptor = self._open(key)
            try:
                size = os.fstat(descriptor).st_size
                found = resident_pages(descriptor, size)
            finally:
                os.close(descriptor)
            if found is None:
                return None
            resident += found
            pages += -(-size // PAGE)
        return resident / pages if pages else None

    def _path(self, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise UsageError(f"'{key}' is no key; use 1 to 200 of the letters A-Z, a-z, 0-9, '.', '_' and '-'")
        return f"{self.root}/{_folder(key)}/{key}{_SUFFIX}"

    def _open(self, key: str, flags: int = 0) -> int:
        path = self._path(key)
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
        except FileNotFoundError:
            raise missing(key, path) from None
        except OSError as error:
            raise unavailable("read the object", path, error) from None

    def _read_one(self, item: Read) -> None:
        descriptor = self._open(item.key)
        try:
            done = read_into(descriptor, item.out, item.offset)
        except OSError as error:
            raise unavailable("read the object", self._path(item.key), error) from None
        finally:
            os.close(descriptor)
        if done < item.length:
            raise truncated(item, done)

    def _create(self, path: str) -> int:
        for _ in range(_CREATE_TRIES):
            try:
                return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            except FileNotFoundError:  # the first of its folder, or a delete just removed the empty folder
                Path(path).parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def _fill(self, descriptor: int, parts: Sequence[Buffer]) -> None:
        """Write the bytes of one object. Override it to do more before the object is published."""
        views = [memoryview(part) for part in parts]
        vectored([view.cast("B") for view in views if view.nbytes], lambda batch, _: os.writev(descriptor, batch))

    def _published(self, path: str) -> None:
        """The object ``path`` is visible now. Override it to do more after that."""


def read_into(descriptor: int, out: Sequence[memoryview], offset: int) -> int:
    """Fill ``out`` from ``offset`` on; returns the bytes read, fewer where the file ends."""
    return vectored([part for part in out if part.nbytes], lambda batch, done: os.preadv(descriptor, batch, offset + done))


def vectored(parts: list[memoryview], move: Callable[[list[memoryview], int], int]) -> int:
    """Call ``move(buffers, bytes done so far)`` until all ``parts`` are moved or it moves nothing; returns the bytes moved.

    ``move`` gets at most 1,024 buffers, and may move as little of them as it likes.
    """
    total = sum(part.nbytes for part in parts)
    done = 0
    while done < total:
        moved = move(parts[:_IOV_MAX], done)
        if moved == 0:
            break
        done += moved
        if done < total:
            parts = _behind(parts, moved)
    return done


def _behind(parts: list[memoryview], moved: int) -> list[memoryview]:
    for position, part in enumerate(parts):
        if moved < part.nbytes:
            return [part[moved:], *parts[position + 1 :]]
        moved -= part.nbytes
    return []


def _folder(key: str) -> str:
    return key[:2].replace(".", "_")  # "." and ".." are no names for a folder


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
