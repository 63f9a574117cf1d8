"""For mkdocs: the README as the first page of the site, and links to what the site does not have as plain text.

The pages are written to be read in the repository, where `../examples/ci/gate.sh` leads somewhere; in the site it does not.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add README.md and CONTRIBUTING.md, whose links start at the top of the repository."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "index.md", content=from_top(readme)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links of a page that lead out of docs/ become their text."""
    return within(markdown, (ROOT / "docs" / page.file.src_uri).parent)


def from_top(text: str) -> str:
    """The README's links, from docs/ on: ``docs/ci.md`` is ``ci.md`` there."""

    def moved(found: re.Match[str]) -> str:
        mark, words, target, anchor = found.groups()
        if "://" in target:
            return found[0]
        return f"{mark}[{words}]({target.removeprefix('docs/') if target.startswith('docs/') else '../' + target}{anchor or ''})"

    return LINK.sub(moved, text)


def within(text: str, folder: Path) -> str:
    """``text`` of a page in ``folder`` without the links to files of the repository that are no pages. A link to nothing stays,
    so that the build fails by it."""

    def kept(found: re.Match[str]) -> str:
        mark, words, target, _ = found.groups()
        place = (folder / target).resolve()
        outside = "://" not in target and not place.is_relative_to(ROOT / "docs") and place.exists()
        return words if outside and not mark else found[0]

    return LINK.sub(kept, text)
