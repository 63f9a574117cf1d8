"""A history of verdicts over time: where a ratio changed for good, and a picture.

series_of(read(path), metrics) -> [Series]   one an arm pair and metric, in time order
change_points(log_ratios) -> [int]           places where a new level begins
changes(series) -> [Change]                  the same with times, commits and levels
draw(series) -> Figure; save(figure, path)
"""

from harness.trend.changes import LEAST, Change, change_points, changes
from harness.trend.picture import draw, save
from harness.trend.series import Series, series_of

__all__ = ["LEAST", "Change", "Series", "change_points", "changes", "draw", "save", "series_of"]
