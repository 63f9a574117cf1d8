"""Whose files a store may believe, and which file systems may hang. Linux only.

What lies in a store is loaded into a model's memory, so whoever can write there decides what the model has read.
"""

import errno
import os
import pwd
import re
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from harness.core.errors import StoreUnavailable

TEMPORARY = ".ttft-"
"""What names of temporary files begin with. They lie in the store's root, so that old ones are found by listing it."""

STALE_S = 3600.0
"""Age from which a temporary file is one of a writer that was killed: a living one writes, which makes its file younger."""

_ADD = "or add shared=1 if you trust everybody who can write there"
_REMOTE = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|ceph|lustre|gpfs|beegfs|wekafs|afs|glusterfs|pvfs2|orangefs|gfs2|ocfs2|9p|virtiofs|vboxsf"
    r"|autofs|fuse(?!\.fuse-overlayfs).*|fuseblk"
)
"""autofs: whatever will be mounted there on the first access."""
_MOUNTS = Path("/proc/self/mountinfo")


def prepare_root(root: Path, shared: bool, fix: str = _ADD) -> None:
    """Make the store's directory, for this user alone unless ``shared``. Raises OSError, and StoreUnavailable for a directory
    that somebody else could have put there or can write to."""
    root.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        root.mkdir(mode=0o777 if shared else 0o700)
    if shared:
        root.mkdir(exist_ok=True)  # raises where it is a file
        return
    found = root.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise StoreUnavailable(f"{root} is a symbolic link, which may lead to anybody's files; name the directory itself, {fix}")
    if not stat.S_ISDIR(found.st_mode):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    if found.st_uid != os.geteuid():
        owner = _name_of(found.st_uid)
        raise StoreUnavailable(f"{root} belongs to {owner}, who decides what is in it; name a directory of your own, {fix}")
    if found.st_mode & 0o022:
        mode = stat.S_IMODE(found.st_mode)
        raise StoreUnavailable(f"other users may write to {root} (mode {mode:o}); run chmod go-w on it, {fix}")


def _name_of(user: int) -> str:
    try:
        return f"user {pwd.getpwuid(user).pw_name}"
    except KeyError:
        return f"user {user}"


def open_regular(path: str, flags: int, shared: bool) -> int:
    """A descriptor of a regular file, of this user's unless ``shared``. Never waits, as opening a FIFO would.

    Raises OSError, and StoreUnavailable for anything else that lies at ``path``.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW | flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a symbolic link; a socket, or a device without a driver
            raise _no_object(path) from None
        raise
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and (shared or found.st_uid == os.geteuid()):
        return descriptor
    os.close(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise _no_object(path)
    raise StoreUnavailable(f"{path} belongs to {_name_of(found.st_uid)}, not to you; delete it, {_ADD}")


def _no_object(path: str) -> StoreUnavailable:
    return StoreUnavailable(f"{path} is no regular file, so no object of ours; delete it")


def sweep(root: Path) -> None:
    """Delete temporary files of this user's writers that were killed: those that nobody has written to for ``STALE_S``."""
    oldest = time.time() - STALE_S
    with suppress(OSError), os.scandir(root) as entries:
        for entry in entries:
            if not (entry.name.startswith(TEMPORARY) and entry.is_file(follow_symlinks=False)):
                continue
            with suppress(OSError):
                found = entry.stat(follow_symlinks=False)
                if found.st_uid == os.geteuid() and found.st_mtime < oldest:
                    Path(entry.path).unlink()


def remote_file_system(path: Path, read_mounts: Callable[[], str] = _MOUNTS.read_text) -> str:
    """The type of the file system at ``path`` where a call to it may hang (a network, a FUSE process), else empty.

    Touches nothing at ``path``, which might hang; so a symbolic link on the way goes unnoticed.
    """
    wanted = os.path.abspath(path)  # noqa: PTH100 - Path.resolve would look at it
    longest, kind = "", ""
    try:
        lines = read_mounts().splitlines()
    except OSError:
        return ""
    for line in lines:
        fields, _, rest = line.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), fields.split()[4])
        if len(point) >= len(longest) and (wanted == point or wanted.startswith(point.rstrip("/") + "/")):
            longest, kind = point, rest.split()[0]
    return kind if _REMOTE.fullmatch(kind) else ""
