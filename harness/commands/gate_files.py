"""``ttft gate`` on result files of other tools: which files are meant, and the verdict on them."""

from collections.abc import Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import UsageError

if TYPE_CHECKING:
    from harness.gate import Verdict

Side = tuple[str, Sequence[Path]]
"""What a side is called, and its files."""


def foreign_files(run: Path | None, other: Path | None, base: str | None, candidate: str | None) -> tuple[Side, Side] | None:
    """Both sides, base first, if files are meant: A.json B.json, or patterns as --base and --candidate. None for measurements.

    Raises UsageError if one side is files and the other is not there.
    """
    if run is not None and run.is_file():
        if other is None or base is not None or candidate is not None:
            raise UsageError(
                f"{run} is a file; give two, the base first, or several a side: --base 'a*.json' --candidate 'b*.json'"
            )
        if not other.is_file():
            raise UsageError(f"{run} is a file and {other} is none; give two result files of the same tool")
        return (str(run), [run]), (str(other), [other])
    if run is not None or not base or not candidate:
        return None
    sides = [(pattern, _matching(pattern)) for pattern in (base, candidate)]
    if not any(files for _, files in sides):
        return None
    for pattern, files in sides:
        if not files:
            raise UsageError(f"no file matches {pattern}; give result files as --base and --candidate")
    return sides[0], sides[1]


def _matching(pattern: str) -> list[Path]:
    names = glob(pattern, recursive=True)  # noqa: PTH207 - a pattern may begin at the root
    return sorted(path for path in map(Path, names) if path.is_file())


def judge_foreign(
    base: Side, candidate: Side, margins: Mapping[str, float], alpha: float, limits: Mapping[str, float]
) -> "Verdict":
    """The verdict. Raises UsageError or ResultsError."""
    from harness.gate.foreign import judge_files
    from harness.results.foreign import read_foreign

    twice = {path for path in base[1] if path.resolve() in {other.resolve() for other in candidate[1]}}
    if len(base[1]) + len(candidate[1]) > 2 and twice:
        raise UsageError(f"{min(twice)} is on both sides; give each side its own files")
    runs = [(name, [run for path in files for run in read_foreign(path)]) for name, files in (base, candidate)]
    return judge_files(runs[0], runs[1], margins, alpha, limits)
