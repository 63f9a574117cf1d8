"""One version of a package, taken from git or from a folder, and copied so that nobody changes it any more."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import SetupError, UsageError

NOT_SOURCE = shutil.ignore_patterns(".git", ".venv", "venv", "__pycache__", "build", "*.egg-info", ".*_cache", ".hypothesis")


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a package. ``name``: base or head, as its lane. ``commit`` is empty without git, and then or with
    ``working_tree`` the files are those that lie in ``folder``. ``what``: in the user's words."""

    name: str
    folder: Path
    commit: str
    working_tree: bool
    what: str

    def __str__(self) -> str:
        """For messages: which version, and where its code is from."""
        return f"{self.name} ({self.what})"


def resolve(name: str, repo: Path, ref: str | None, path: Path | None) -> Version:
    """The version that the flags mean: a folder as it is, a commit of the repository, or its working tree if neither is given.

    Raises UsageError if there is no such folder, repository or commit, SetupError without git.
    """
    if path is not None and ref is not None:
        raise UsageError(f"--{name} {ref} and --{name}-path {path} both name the {name}; give one")
    folder = path if path is not None else repo
    if not folder.is_dir():
        flag = f"--{name}-path" if path is not None else "--repo"
        raise UsageError(f"{flag} {folder} is not a folder; give the one that holds the package's pyproject.toml")
    if path is not None:
        return Version(name, folder, _commit(folder, "HEAD"), working_tree=True, what=str(folder))
    wanted = "HEAD" if ref is None else ref
    commit = _commit(repo, wanted)
    if not commit:
        inside = _git(repo, "rev-parse", "--git-dir").returncode == 0
        lack = f"git knows no commit '{wanted}' in {repo}" if inside else f"{repo} is not a git repository"
        fix = "fetch it, or name another" if inside else f"give --repo, or the folder itself with --{name}-path"
        raise UsageError(f"--{name} {wanted}: {lack}; {fix}")
    if ref is None:
        return Version(name, repo, commit, working_tree=True, what=f"working tree on {commit[:12]}")
    return Version(name, repo, commit, working_tree=False, what=ref if commit.startswith(ref) else f"{ref}, {commit[:12]}")


def snapshot(version: Version, target: Path) -> str:
    """Copy the version's files to ``target``, a new folder, and return their digest. Reads the user's folder, never writes there.

    From git: what the commit holds below the folder. A working tree: its files as they are, without what git ignores.
    """
    target.mkdir(parents=True)
    if not version.working_tree:
        _check_out(version, target)
    elif (listed := _git(version.folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard")).returncode == 0:
        _copy(version.folder, listed.stdout.decode().split("\0"), target)
    else:
        shutil.copytree(version.folder, target, dirs_exist_ok=True, symlinks=True, ignore=NOT_SOURCE)
    if not any((target / name).exists() for name in ("pyproject.toml", "setup.py")):
        raise UsageError(
            f"the {version} has no pyproject.toml in {version.folder}, so it cannot be installed; give the package's folder"
        )
    return digest(target)


def changed(version: Version) -> bool | None:
    """Whether the files differ from the commit; None without git to ask."""
    if not version.working_tree:
        return False
    status = _git(version.folder, "--no-optional-locks", "status", "--porcelain", "--", ".")
    return bool(status.stdout.strip()) if status.returncode == 0 else None


def digest(tree: Path) -> str:
    """SHA-256 over the paths and contents of all files below ``tree``."""
    found = hashlib.sha256()
    for path in sorted(tree.rglob("*")):
        if path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            found.update(f"{path.relative_to(tree).as_posix()}\0{content}\n".encode())
    return found.hexdigest()


def _check_out(version: Version, target: Path) -> None:
    """Through an index of our own: neither the user's index nor the working tree is touched, and no worktree remains."""
    told = _git(version.folder, "rev-parse", "--absolute-git-dir", "--show-prefix").stdout.decode().split("\n")
    index = target.with_name(f"{target.name}.index")
    environment = {**os.environ, "GIT_INDEX_FILE": str(index)}
    for command in (["read-tree", f"{version.commit}:{told[1]}"], ["checkout-index", "--all"]):
        whole = ["git", "--git-dir", told[0], "--work-tree", str(target), *command]
        done = subprocess.run(whole, cwd=target, env=environment, capture_output=True)
        if done.returncode:
            raise UsageError(f"git cannot give out the {version}: {_last_line(done.stderr)}")
    index.unlink()


def _copy(folder: Path, names: Sequence[str], target: Path) -> None:
    for name in filter(None, names):
        source = folder / name
        if source.is_file():  # deleted ones and submodules are listed too
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


def _commit(folder: Path, ref: str) -> str:
    found = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    return found.stdout.decode().strip() if found.returncode == 0 else ""


def _git(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True)
    except FileNotFoundError:
        raise SetupError("git is not installed; install it, or give folders with --base-path and --head-path") from None


def _last_line(text: bytes) -> str:
    return (text.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
