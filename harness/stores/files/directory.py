"""Objects as files of one directory: what ``disk.py`` and ``memory.py`` have in common. Linux only.

An object lies at ``<root>/<first two letters of the key>/<key>.kv``. A file that is not under such a
name is no object, so that half-written temporary files are never seen.
"""

import math
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, unquote
from uuid import uuid4

from pydantic import Field

from harness.core.errors import ChunkMissing, UsageError
from harness.core.text import redact
from harness.stores.base import Buffer, Read, Store, StoreOptions, checked_key, each_read, is_key, unsplit
from harness.stores.bounded import Apart
from harness.stores.files.errors import missing, names_in, truncated, unavailable
from harness.stores.files.page_cache import PAGE, drop, fill, resident_pages
from harness.stores.files.trust import TEMPORARY, open_regular, prepare_root, remote_file_system, sweep
from harness.stores.files.vectored import read_into, vectored

T = TypeVar("T")

_SUFFIX = ".kv"
_RENAME_TRIES = 100


class DirectoryOptions(StoreOptions):
    """Options of the stores over a directory that the user names."""

    shared: bool = Field(
        False, description="take a directory and objects of other users; off: the directory is yours alone, or refused"
    )
    timeout_s: float = Field(
        10.0, gt=0, le=3600, description="seconds for a call on a network or FUSE file system; others don't hang"
    )


class DirectoryStore(Store):
    """A store over a directory. Reads open the file each time.

    A read from a local file system ends by itself, so its deadline is looked at between the reads of a batch. One from a
    network or FUSE file system may never end: it goes through a thread and memory of its own (harness/stores/bounded.py).
    Writes have no bound. Opening and closing costs about 5 µs, against 80 µs for half a MiB from the page cache; a kept
    descriptor would have to be checked (2 µs) to notice that its object was replaced or deleted.
    """

    keeps_deadlines = True

    @classmethod
    def directory_of(cls, url: SplitResult) -> Path:
        """The directory that a URL names. Raises UsageError."""
        return named_directory(url)

    @classmethod
    def check_address(cls, url: SplitResult) -> None:
        """It names a directory."""
        super().check_address(url)
        cls.directory_of(url)

    def __init__(self, url: SplitResult, options: StoreOptions) -> None:
        """Make the directory and prove that it can be written. Raises UsageError, StoreUnavailable."""
        super().__init__(url, options)
        self.root = root = self.directory_of(url)
        given = options if isinstance(options, DirectoryOptions) else None
        self._shared = given is not None and given.shared
        remote = remote_file_system(root)
        self._apart = Apart(f"the {remote} file system at {root}", given.timeout_s if given else math.inf) if remote else None
        try:
            self._bounded(self._prepare)
        except OSError as error:
            raise unavailable("open the store", root, error) from None

    def _prepare(self) -> None:
        fix = () if isinstance(self.options, DirectoryOptions) else ("or choose another name",)
        prepare_root(self.root, self._shared, *fix)
        with tempfile.TemporaryFile(dir=self.root, prefix=TEMPORARY):
            pass
        sweep(self.root)

    def _bounded(self, what: Callable[[], T]) -> T:
        """``what``, which must not write to the caller's memory, in bounded time. Raises DeadlineMissed."""
        return what() if self._apart is None else self._apart.call(what)

    @property
    def notes(self) -> tuple[str, ...]:
        """That reads with a deadline are copied, if they are."""
        if self._apart is None:
            return ()
        return (f"{self.root} lies on a network or FUSE file system, so each batch of reads takes a thread and a copy",)

    def exists(self, keys: Sequence[str]) -> int:
        """One stat per key, up to the first that is missing. What is no regular file is no object."""
        paths = [self._path(key) for key in keys]
        return self._bounded(lambda: _count_present(paths))

    def read(self, reads: Sequence[Read]) -> None:
        """One preadv a read, as long as it has at most 1,024 buffers and is below 2 GiB."""
        if self._apart is None:
            each_read(reads, self._read_one)
        else:
            self._apart.read(reads, lambda own: each_read(own, self._read_one))

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        """Write a temporary file, then rename it."""
        path = self._path(key)
        temporary = f"{self.root}/{TEMPORARY}{uuid4().hex}.tmp"
        try:
            descriptor = self._create(temporary)
            try:
                self._fill(descriptor, parts)
            finally:
                os.close(descriptor)
            self._publish(temporary, path)
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
        for folder in names_in(self.root):
            for name in names_in(self.root / folder):
                key = name.removesuffix(_SUFFIX)
                if key != name and is_key(key) and _folder(key) == folder:
                    yield key

    def size(self, key: str) -> int:
        """Length of the file."""
        path = self._path(key)
        try:
            return Path(path).lstat().st_size
        except FileNotFoundError:
            raise missing(key, path) from None
        except OSError as error:
            raise unavailable("look at the object", path, error) from None

    def _bring_in(self, keys: Iterable[str]) -> None:
        """Into the page cache. Raises ChunkMissing."""
        for key in keys:
            descriptor = self._open(key)
            try:
                fill(descriptor)
            except OSError as error:
                raise unavailable("read the object", self._path(key), error) from None
            finally:
                os.close(descriptor)

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

    def _evict(self, keys: Iterable[str]) -> bool:
        """Drop from the page cache, then count what is left; True where nothing is. A missing object counts as gone.

        A page that another process keeps mapped or is reading stays.
        """
        gone = True
        for key in keys:
            try:
                descriptor = self._open(key)
            except ChunkMissing:
                continue
            try:
                drop(descriptor)
                gone = resident_pages(descriptor, os.fstat(descriptor).st_size) == 0 and gone
            except OSError as error:
                raise unavailable("drop the object from the page cache", self._path(key), error) from None
            finally:
                os.close(descriptor)
        return gone

    def _path(self, key: str) -> str:
        return f"{self.root}/{_folder(checked_key(key))}/{key}{_SUFFIX}"

    def _open(self, key: str, flags: int = 0) -> int:
        path = self._path(key)
        try:
            return open_regular(path, flags, self._shared)
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
        flags, mode = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666 if self._shared else 0o600
        try:
            return os.open(path, flags, mode)
        except FileNotFoundError:  # somebody removed the root
            self._prepare()
            return os.open(path, flags, mode)

    def _publish(self, temporary: str, path: str) -> None:
        for attempt in range(_RENAME_TRIES):
            try:
                os.replace(temporary, path)  # noqa: PTH105 - a third of the time of Path.replace
                break
            except FileNotFoundError:  # the first of its folder, or a delete just removed the empty folder
                if attempt == _RENAME_TRIES - 1:
                    raise
                Path(path).parent.mkdir(mode=0o777 if self._shared else 0o700, exist_ok=True)
        self._published(path)

    def _fill(self, descriptor: int, parts: Sequence[Buffer]) -> None:
        """Write the bytes of one object. Override it to do more before the object is published."""
        views = [memoryview(part) for part in parts]
        vectored([view.cast("B") for view in views if view.nbytes], lambda batch, _: os.writev(descriptor, batch))

    def _published(self, path: str) -> None:
        """The object ``path`` is visible now. Override it to do more after that."""


def _count_present(paths: Sequence[str]) -> int:
    for position, path in enumerate(paths):
        try:
            if not stat.S_ISREG(os.lstat(path).st_mode):
                return position
        except FileNotFoundError:
            return position
        except OSError as error:
            raise unavailable("look for the object", path, error) from None
    return len(paths)


def named_directory(url: SplitResult) -> Path:
    """The directory of ``scheme:///absolute/path``, or of ``scheme://~/path`` below this user's home, whose ``.cache`` is what
    XDG_CACHE_HOME says. Raises UsageError for a URL that names none."""
    path = unquote(url.path)
    if url.netloc not in ("", "localhost", "~") or not path.strip("/") or "\0" in path or url.fragment:
        shown = redact(unsplit(url))
        raise UsageError(f"'{shown}' names no directory; write {url.scheme}:///absolute/path, with %3F for ? and %23 for #")
    if url.netloc != "~":
        return Path(path)
    below = Path(path.lstrip("/"))
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if below.parts[0] == ".cache" and cache.startswith("/"):
        return Path(cache, *below.parts[1:])
    try:
        return Path.home() / below
    except RuntimeError:
        raise UsageError(f"this user has no home for '{redact(unsplit(url))}'; write {url.scheme}:///absolute/path") from None


def _folder(key: str) -> str:
    return key[:2].replace(".", "_")  # "." and ".." are no names for a folder
