"""Writes constraints.txt: the versions, of all packages that pyproject.toml names, that are installed here.

    .venv/bin/python scripts/constraints.py        after the tests have passed

A package that is not installed here keeps the version that it had.
"""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "constraints.txt"
HEAD = """# The versions with which the tests last passed, of the packages that pyproject.toml names.
# pip install -c constraints.txt ...; written by scripts/constraints.py.
"""
NOT_HERE = ("ttft", "kvikio-cu13", "vllm")
"""Ourselves, and what needs a GPU that the tests don't have."""


def named(pyproject: Path = ROOT / "pyproject.toml") -> dict[str, list[str]]:
    """The packages of all extras, in lower case, with the version specifiers that stand beside them."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    found: dict[str, list[str]] = {}
    for line in [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]:
        match = re.match(r"([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?([^;]*)", line)
        if match and match[1] not in NOT_HERE:
            found.setdefault(match[1].lower(), []).append(match[2].strip())
    return found


def pinned(file: Path = FILE) -> dict[str, str]:
    """Package to version, as the file has them."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def main() -> None:
    """Write the file."""
    before, found = pinned(), {}
    for name in sorted(named()):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            if name in before:
                found[name] = before[name]
    FILE.write_text(HEAD + "".join(f"{name}=={one}\n" for name, one in found.items()), encoding="utf-8")


if __name__ == "__main__":
    main()
