"""Where a side comes from, and that taking it leaves the user's repository as it was."""

from pathlib import Path

import pytest
from repositories import git

from harness.core.errors import UsageError
from harness.experiment.lanes.versions import changed, digest, resolve, snapshot


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Two commits, and a working tree that differs from both."""
    repo = tmp_path / "repo"
    (repo / "engine").mkdir(parents=True)
    git(repo, "init", "--quiet", "--initial-branch=main")
    (repo / ".gitignore").write_text("*.log\n")
    (repo / "pyproject.toml").write_text("[project]\nname='p'\n")
    (repo / "engine" / "code.py").write_text("version = 1\n")
    (repo / "gone.py").write_text("")
    git(repo, "add", ".")
    git(repo, "commit", "--quiet", "-m", "one")
    git(repo, "tag", "v1")
    (repo / "engine" / "code.py").write_text("version = 2\n")
    git(repo, "commit", "--quiet", "-am", "two")
    (repo / "engine" / "code.py").write_text("version = 3\n")
    (repo / "engine" / "new.py").write_text("")
    (repo / "noise.log").write_text("not source")
    (repo / "gone.py").unlink()
    return repo


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_ref_gives_the_commits_files_and_not_the_working_trees(repo: Path, tmp_path: Path) -> None:
    side = resolve("base", repo, "v1", None)
    snapshot(side, tmp_path / "out" / "tree")
    assert files(tmp_path / "out" / "tree") == {".gitignore", "pyproject.toml", "engine/code.py", "gone.py"}
    assert (tmp_path / "out" / "tree" / "engine" / "code.py").read_text() == "version = 1\n"
    assert side.commit == git(repo, "rev-parse", "v1").strip()
    assert str(side) == f"base (v1, {side.commit[:12]})"
    assert changed(side) is False


def test_the_default_is_the_working_tree_as_it_is(repo: Path, tmp_path: Path) -> None:
    side = resolve("head", repo, None, None)
    snapshot(side, tmp_path / "tree")
    assert files(tmp_path / "tree") == {".gitignore", "pyproject.toml", "engine/code.py", "engine/new.py"}
    assert (tmp_path / "tree" / "engine" / "code.py").read_text() == "version = 3\n"
    assert changed(side) is True


def test_the_repository_is_left_as_it_was(repo: Path, tmp_path: Path) -> None:
    git(repo, "add", "engine/new.py")
    before = {path: path.read_bytes() for path in repo.rglob("*") if path.is_file()}
    for number, ref in enumerate(("HEAD", "v1", None)):
        side = resolve("base", repo, ref, None)
        snapshot(side, tmp_path / str(number) / "tree")
        changed(side)
    assert {path: path.read_bytes() for path in repo.rglob("*") if path.is_file()} == before
    assert len(git(repo, "worktree", "list").splitlines()) == 1


def test_a_package_in_a_folder_of_its_repository(repo: Path, tmp_path: Path) -> None:
    package = repo / "packages" / "mine"
    package.mkdir(parents=True)
    (package / "pyproject.toml").write_text("[project]\nname='mine'\n")
    git(repo, "add", "packages")
    git(repo, "commit", "--quiet", "-m", "three")
    for name, ref in (("base", "HEAD"), ("head", None)):
        snapshot(resolve(name, package, ref, None), tmp_path / name)
        assert files(tmp_path / name) == {"pyproject.toml"}


def test_a_plain_folder_needs_no_git(tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "pyproject.toml").write_text("[project]\nname='p'\n")
    (folder / "__pycache__" / "x.pyc").write_text("")
    side = resolve("head", Path("nowhere"), None, folder)
    snapshot(side, tmp_path / "tree")
    assert files(tmp_path / "tree") == {"pyproject.toml"}
    assert (side.commit, changed(side)) == ("", None)


def test_equal_files_have_equal_digests_and_others_have_not(repo: Path, tmp_path: Path) -> None:
    found = {ref: snapshot(resolve("base", repo, ref, None), tmp_path / str(ref)) for ref in ("HEAD", "main", "v1", None)}
    assert found["HEAD"] == found["main"]
    assert len(set(found.values())) == 3
    (tmp_path / "HEAD" / "gone.py").rename(tmp_path / "HEAD" / "elsewhere.py")
    assert digest(tmp_path / "HEAD") != found["HEAD"]


@pytest.mark.parametrize(
    ("ref", "path", "sentence"),
    [
        ("v9", None, "--base v9: git knows no commit 'v9' in .*; fetch it, or name another"),
        ("--help", None, "git knows no commit '--help'"),
        ("v1", "repo", "--base v1 and --base-path .* both name the base; give one"),
        (None, "nowhere", "--base-path .*nowhere is not a folder; give the one that holds"),
    ],
)
def test_a_side_that_cannot_be_is_one_sentence(repo: Path, ref: str | None, path: str | None, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        resolve("base", repo, ref, repo.parent / path if path else None)


def test_no_repository_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is not a git repository; give --repo, or the folder itself with --base-path"):
        resolve("base", tmp_path, "main", None)
    with pytest.raises(UsageError, match=r"--repo .*missing is not a folder"):
        resolve("base", tmp_path / "missing", "main", None)


def test_files_without_a_package_are_refused(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(UsageError, match=r"the head \(.*plain\) has no pyproject.toml"):
        snapshot(resolve("head", tmp_path, None, tmp_path / "plain"), tmp_path / "tree")
