"""constraints.txt is in step with pyproject.toml, and so are the Dockerfile and the set-up that it repeats."""

import re
import tomllib
from pathlib import Path

import setup
from constraints import named, pinned
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_every_package_that_is_named_is_pinned_within_what_is_allowed() -> None:
    wanted, there = named(), pinned()
    assert sorted(there) == list(there) == sorted(wanted), "write it anew: python scripts/constraints.py"
    wrong = [f"{name}=={there[name]}" for name, texts in wanted.items() if not all(there[name] in SpecifierSet(t) for t in texts)]
    assert wrong == []


def test_named_reads_extras_and_markers(tmp_path: Path) -> None:
    text = "[project]\ndependencies = ['A-b[x]>=1,<2; python_version < \"4\"']\n"
    text += "[project.optional-dependencies]\nc = ['d', 'ttft[c]']\n"
    (tmp_path / "pyproject.toml").write_text(text)
    assert named(tmp_path / "pyproject.toml") == {"a-b": [">=1,<2"], "d": [""]}


def instructions() -> dict[str, list[str]]:
    """The Dockerfile's, continued lines as one, by their first word."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        found.setdefault(word, []).append(" ".join(rest.split()))
    return found


def test_the_dockerfile_copies_what_is_there_and_all_that_the_package_needs() -> None:
    copied = [word for line in instructions()["COPY"] for word in line.split()[:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert {"pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "harness", "constraints.txt"} <= set(copied)


def test_the_dockerfile_installs_as_the_set_up_does() -> None:
    runs = " ".join(instructions()["RUN"])
    assert f"--index-url {setup.CPU_TORCH_INDEX} {setup.CPU_TORCH}" in runs
    assert f"pip uninstall --yes {' '.join(setup.BROKEN_BESIDE_CPU_TORCH)}" in runs
    (extras,) = re.findall(r"/opt/ttft\[\$FLAVOUR,([a-z0-9,]+)\]", runs)
    assert set(extras.split(",")) | {"cpu", "cuda"} <= set(PROJECT["optional-dependencies"])
    assert instructions()["ARG"] == ["FLAVOUR=cpu"]
    assert instructions()["ENTRYPOINT"] == ['["ttft"]'] and "ttft" in PROJECT["scripts"]
    python = re.findall(r"python:(\d+\.\d+)", instructions()["FROM"][0])
    assert f"Programming Language :: Python :: {python[0]}" in PROJECT["classifiers"]
