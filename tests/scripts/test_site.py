"""The site of the docs builds, and a link that leads nowhere fails it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="mkdocs is not installed; make setup-dev installs it")
ROOT = Path(__file__).resolve().parents[2]


def build(root: Path, out: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def test_it_builds_with_the_readme_as_its_first_page(tmp_path: Path) -> None:
    code, said = build(ROOT, tmp_path)
    assert code == 0 and "WARNING" not in said, said
    first = (tmp_path / "index.html").read_text("utf-8")
    assert 'href="ci.html"' in first and 'src="pictures/default-ecdf.png"' in first
    assert 'href="../examples' not in (tmp_path / "ci.html").read_text("utf-8"), "the site does not have the examples"


@pytest.mark.parametrize("broken", ["[lost](nowhere.md)", "[lost](ci.md#no-such-title)", "[lost](../examples/nothing.sh)"])
def test_a_link_to_nothing_fails_it(tmp_path: Path, broken: str) -> None:
    here = tmp_path / "project"
    here.mkdir()
    (here / "docs").mkdir()
    (here / "scripts").mkdir()
    for name in ("README.md", "scripts/site_pages.py"):
        shutil.copy(ROOT / name, here / name)
    (here / "README.md").write_text("# ttft")
    (here / "docs" / "ci.md").write_text(f"# CI\n{broken}\n")
    text = (ROOT / "mkdocs.yml").read_text("utf-8").partition("nav:\n  -")[0]
    (here / "mkdocs.yml").write_text(text + "nav:\n  - index.md\n  - ci.md\n")
    code, said = build(here, tmp_path / "site")
    assert code == 1 and "strict mode" in said
