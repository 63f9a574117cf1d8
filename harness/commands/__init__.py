"""One command of the command line a file: parse, call, print. ``app.py`` names them all."""
