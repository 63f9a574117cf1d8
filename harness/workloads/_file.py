"""Opening a trace: plain, or compressed as its first bytes say; and files that are something else, named as what they are."""

import bz2
import gzip
import lzma
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from harness.core.errors import SetupError, UsageError

_HEAD = 512
_OTHER = (
    (b"version https://git-lfs.github.com/", "a Git LFS pointer, not the file it stands for", "fetch it with `git lfs pull`"),
    (b"<!doctype", "a web page", "download the file itself, not the page that shows it"),
    (b"<html", "a web page", "download the file itself, not the page that shows it"),
    (b"PK\x03\x04", "a zip archive", "unpack it"),
    (b"PAR1", "a Parquet file", "convert it to the text format that this workload reads"),
)
"""First bytes of what users name by mistake, what it is, and what to do."""


@contextmanager
def opened(path: str, what: str) -> Iterator[BinaryIO]:
    """The file's bytes, uncompressed (gzip, bzip2, xz, zstd). ``what``: the kind of file, for the message.

    Raises UsageError if it cannot be opened or read, is not a regular file, is damaged or is something else by its
    first bytes; SetupError if it needs the extra ``zstd``.
    """
    damage: list[type[Exception]] = [EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile]
    try:
        with ExitStack() as stack:
            yield _opened(path, stack, damage)
    except tuple(damage) as error:
        raise UsageError(
            f"cannot read {path}: the compressed data is damaged or cut off ({error}); fetch the file again"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(f"cannot read {path}: {reason}; path= must name a file of {what}") from error


def _opened(path: str, stack: ExitStack, damage: list[type[Exception]]) -> BinaryIO:
    """Adds to ``damage`` what a decoder raises."""
    where = Path(path).expanduser()
    kind = where.stat().st_mode
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):  # to open a FIFO would wait for its writer
        raise ValueError("not a regular file")
    file = stack.enter_context(where.open("rb"))
    head = file.read(_HEAD)
    file.seek(0)
    for mark, other, fix in _OTHER:
        if head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(mark.lower()):
            raise UsageError(f"{path} is {other}; {fix}")
    decoder = _decoder(path, head, damage)
    return stack.enter_context(cast(BinaryIO, decoder(file))) if decoder else file


def _decoder(path: str, head: bytes, damage: list[type[Exception]]) -> Callable[[IO[bytes]], Any] | None:
    if head.startswith(b"\x1f\x8b"):
        return gzip.open
    if head.startswith(b"BZh"):
        return bz2.open
    if head.startswith(b"\xfd7zXZ\x00"):
        return lzma.open
    if not head.startswith(b"\x28\xb5\x2f\xfd"):
        return None
    zstd = _zstd(path)
    damage.append(zstd.ZstdError)
    return cast(Callable[[IO[bytes]], Any], zstd.open)


def _zstd(path: str) -> Any:
    """Python's own module (3.14 and later), or its backport."""
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        try:
            from backports import zstd
        except ImportError as error:
            raise SetupError(f"{path} is compressed with zstd; install what reads it: pip install 'ttft[zstd]'") from error
    return zstd
