"""What every gate does with its verdict: print it, annotate, write its files."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harness.core.errors import UsageError

if TYPE_CHECKING:
    from harness.gate import Verdict


def publish(verdict: "Verdict", out: Path | None, suffix: str = "") -> None:
    """Print ``verdict`` and write verdict.json, verdict.md and junit.xml into ``out``.

    ``suffix`` goes before the dot, if one folder holds several. Raises UsageError if they cannot be written.
    """
    from harness import gate as gates

    typer.echo(gates.markdown(verdict))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in gates.annotations(verdict):
            typer.echo(line)
    if out is not None:
        files = {
            f"verdict{suffix}.json": json.dumps(verdict.to_json(), indent=2) + "\n",
            f"verdict{suffix}.md": gates.markdown(verdict),
            f"junit{suffix}.xml": gates.junit(verdict),
        }
        try:
            out.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (out / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"the verdict cannot be written to {out}: {error.strerror}; give another folder with --out"
            ) from error
