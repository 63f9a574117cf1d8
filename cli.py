"""``python cli.py`` is ``ttft``, in a checkout that isn't installed. The commands are named in harness/commands/app.py."""

from harness.commands.app import app, main

__all__ = ["app", "main"]

if __name__ == "__main__":
    main()
