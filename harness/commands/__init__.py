"""One command of the command line per file: parse, call, print. ``app.py`` names them all."""
