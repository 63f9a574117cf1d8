"""``python -m harness`` is ``ttft``."""

from harness.commands.app import main

main()
