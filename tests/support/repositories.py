"""git for tests, whoever the user is."""

import subprocess
from pathlib import Path


def git(repo: Path, *arguments: str) -> str:
    """Run git in ``repo`` and return what it prints."""
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(repo), *who, *arguments], check=True, capture_output=True, text=True)
    return done.stdout
