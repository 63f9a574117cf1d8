"""The package as a user has it: built, installed into an environment of its own, run outside the checkout."""

import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "MANIFEST.in", "cli.py")
BLOCKED = """
import sys
class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pandas", "matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Lacking())
"""


def run(*command: str | Path, cwd: Path, code: int = 0) -> str:
    """What it prints, both streams. Without PYTHONPATH, so that nothing but what is installed is found."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"COLUMNS": "200"}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel and the sdist, made from a copy: a build leaves folders behind."""
    folder = tmp_path_factory.mktemp("build")
    tree = folder / "tree"
    tree.mkdir()
    for name in SOURCES:
        shutil.copy(ROOT / name, tree)
    shutil.copytree(ROOT / "harness", tree / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    code = "from setuptools import build_meta as b; b.build_sdist('../out'); b.build_wheel('../out')"
    run(sys.executable, "-c", code, cwd=tree)
    (wheel,) = (folder / "out").glob("*.whl")
    (sdist,) = (folder / "out").glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


@pytest.fixture(scope="module")
def ttft(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command, installed from the wheel beside the dependencies that are here already."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    home = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        "--ignore-installed",
    ]
    run(*pip, built["wheel"], cwd=folder)
    (Path(home) / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return folder / "bin" / "ttft"


def test_all_files_of_the_package_and_nothing_else_are_in_the_wheel(built: dict[str, Path]) -> None:
    files = {str(file.relative_to(ROOT)) for file in (ROOT / "harness").rglob("*") if file.is_file()}
    with zipfile.ZipFile(built["wheel"]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == {name for name in files if "__pycache__" not in name}
    assert {"harness/py.typed", "harness/gate/verdict.schema.json", "harness/experiment/shipped/default.toml"} <= names


def test_a_wheel_made_from_the_sdist_is_the_same(built: dict[str, Path], tmp_path: Path) -> None:
    shutil.unpack_archive(built["sdist"], tmp_path, filter="data")
    (tree,) = tmp_path.iterdir()
    run(sys.executable, "-c", "from setuptools import build_meta as b; b.build_wheel('out')", cwd=tree)
    (again,) = (tree / "out").glob("*.whl")
    with zipfile.ZipFile(again) as second, zipfile.ZipFile(built["wheel"]) as first:
        assert sorted(second.namelist()) == sorted(first.namelist())


def test_it_works_outside_the_checkout(ttft: Path, tmp_path: Path) -> None:
    """From the list of experiments to a report and a verdict."""
    listed = run(ttft, "list", "experiments", cwd=tmp_path)
    assert "lmcache" in listed and "r10-what-a-get-sees" in listed
    assert "chunkwise:pool=0" in run(ttft, "compare", "default", "--dry-run", cwd=tmp_path)
    for name in ("default", "gate"):
        shutil.copytree(ROOT / "results" / "reference" / name, tmp_path / name)
    assert "layerwise" in run(ttft, "report", "default", cwd=tmp_path)
    gate = ("--base", "layerwise:depth=4", "--candidate", "layerwise:depth=4@again", "--max", "p50:5%")
    assert "PASS" in run(ttft, "gate", "gate", *gate, cwd=tmp_path)


def test_only_the_package_is_installed(ttft: Path, tmp_path: Path) -> None:
    """No module ``cli`` that would stand in the way of another's."""
    python = ttft.with_name("python")
    code = "import harness, importlib.util as u; print(harness.__file__, u.find_spec('cli'))"
    place, spec = run(python, "-c", code, cwd=tmp_path).split()
    assert Path(place).is_relative_to(ttft.parents[1])
    assert spec == "None"


def test_who_loads_the_connector_needs_neither_pandas_nor_matplotlib(ttft: Path, tmp_path: Path) -> None:
    run(ttft.with_name("python"), "-c", BLOCKED + "import harness.connector, harness.commands.app", cwd=tmp_path)


@pytest.mark.parametrize("words", [["report", "default"], ["compare"], ["gate", "default"]])
def test_a_command_without_the_extra_names_it(ttft: Path, tmp_path: Path, words: list[str]) -> None:
    """Before anything is measured."""
    shutil.copytree(ROOT / "results" / "reference" / "default", tmp_path / "default")
    code = BLOCKED + f"from harness.commands.app import main; sys.argv = {['ttft', *words]!r}; main()"
    said = run(ttft.with_name("python"), "-c", code, cwd=tmp_path, code=2)
    assert "error: this command needs the package" in said
    assert "pip install 'ttft[report]'" in said
    assert "Traceback" not in said
