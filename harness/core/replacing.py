"""Files that are read again: whatever happens while one is written, its name stands for all of the old text or all of the new."""

import os
from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, as it is, in place of what was there, and see it onto the disk. Raises OSError."""
    path = path.resolve()  # what a symbolic link names, not the link
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
