"""A side's environment: its own code wins, everything else is shared. Real installations of tiny packages, without network."""

import os
import subprocess
from pathlib import Path

import pytest

from harness.core.errors import SetupError, UsageError
from harness.experiment.lanes.environment import Environment, build, worker_environment
from harness.experiment.lanes.sides import Side

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "{name}"
version = "{version}"
{more}
[tool.setuptools]
packages = {packages}
"""


def side(tmp_path: Path, name: str = "base") -> Side:
    return Side(name, tmp_path, "", working_tree=True, what="some folder")


def write_package(tree: Path, name: str, packages: list[str], version: str = "7.1", more: str = "") -> None:
    text = PYPROJECT.format(name=name, version=version, packages=packages, more=more)
    for package in packages:
        (tree / package).mkdir(parents=True)
        (tree / package / "__init__.py").write_text(f"version = '{version}'\n")
    (tree / "pyproject.toml").write_text(text)


def asked(environment: Environment, code: str) -> str:
    command = [str(environment.python), "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=worker_environment(os.environ), check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Somebody else's engine package in an environment; another version of it is on PYTHONPATH."""
    home = tmp_path_factory.mktemp("foreign")
    more = '[project.entry-points."ttft.engines"]\nmine = "tiny_engine:Mine"'
    write_package(home / "tree", "tiny-engine", ["tiny_engine"], more=more)
    write_package(home / "other", "tiny-engine", ["tiny_engine"], version="0.1")
    (home / "other" / "beside_it.py").write_text("")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(home / "other"))
        return build(side(home), home / "tree", home / "env", home / "install.log")


def test_the_package_is_the_sides_and_not_what_lies_on_the_path(foreign: Environment) -> None:
    assert (foreign.package, foreign.version, foreign.ours) == ("tiny-engine", "7.1", False)
    code = "import tiny_engine; print(tiny_engine.version, tiny_engine.__file__)"
    version, origin = asked(foreign, code).split()
    assert version == "7.1"
    assert foreign.home in Path(origin).parents


def test_everything_else_is_shared(foreign: Environment) -> None:
    import harness

    code = "import harness.experiment.lanes, numpy, beside_it; print(harness.__file__, numpy.__file__)"
    ours, numpy = asked(foreign, code).split()
    assert ours == harness.__file__
    assert foreign.home not in Path(numpy).parents


def test_entry_points_are_the_sides(foreign: Environment) -> None:
    code = "from importlib.metadata import entry_points; print([p.name for p in entry_points(group='ttft.engines')])"
    assert "'mine'" in asked(foreign, code)


def test_a_version_of_ttft_that_cannot_take_turns_is_refused_and_nothing_is_lent_to_it(tmp_path: Path) -> None:
    """Also where ttft is installed editable here: its finder would give out harness.experiment.lanes of another version."""
    write_package(tmp_path / "tree", "ttft", ["harness"])
    with pytest.raises(
        UsageError, match=r"the base \(some folder\) is a version of ttft without harness\.experiment\.lanes"
    ):
        build(side(tmp_path), tmp_path / "tree", tmp_path / "env", tmp_path / "install.log")


def test_a_package_that_does_not_install_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "pyproject.toml").write_text("[project]\nname = 'x'\nversion = 'not a version'\n")
    with pytest.raises(SetupError, match=r"the head \(some folder\) cannot be installed: .*; see .*install\.log"):
        build(side(tmp_path, "head"), tmp_path / "tree", tmp_path / "env", tmp_path / "install.log")
    assert (tmp_path / "install.log").stat().st_size > 0


def test_nothing_may_come_before_the_sides_own_installation() -> None:
    assert worker_environment({"PYTHONPATH": "/x", "HOME": "/h"}) == {"HOME": "/h", "PYTHONSAFEPATH": "1"}
