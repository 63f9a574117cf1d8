"""A grid of experiments: what is varied, and in which order it is measured.

axes.py       one thing that is varied, as --vary gives it
settings.py   where the key of an axis stands in an experiment
grid.py       points, and arms that share one
planning.py   points settled, and which of them share a start of vLLM
estimate.py   how long it will take
state.py      sweep.json: what was asked for and how far it is
driver.py     measure what is left
sharing.py    points of one start of vLLM in turn

The table of a sweep and what a reader sees of it are in reporting/sweep.
"""
