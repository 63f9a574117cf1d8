"""``python -m harness`` is ``ttft``."""

from cli import main

main()
