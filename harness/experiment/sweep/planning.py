"""Points settled before anything starts, and which of them one start of vLLM can serve.

A start serves points in turn if everything that vLLM is started with is the same: model, dtype, store, arms, chunk
size. The longest context is no hindrance: all points of a start get the longest that any of them needs. Between two
points nothing is carried over: each has a namespace of its own in the store, its chunks are deleted at its end, and vLLM's
own prefix cache is off.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.errors import TtftError
from harness.experiment.plan import Setting, settle
from harness.experiment.session import engine_settings
from harness.experiment.sweep.grid import Grid, Point


@dataclass(frozen=True, slots=True)
class Planned:
    """A point with what is known before it is measured. ``start`` numbers the start of vLLM that serves it, from 1."""

    point: Point
    start: int
    arms: tuple[str, ...]
    runs: int
    prompts: int
    max_model_len: int
    notes: tuple[str, ...]

    @property
    def requests(self) -> int:
        """Timed requests."""
        return self.runs * self.prompts


@dataclass(frozen=True, slots=True)
class Plan:
    """All points in the order of the grid."""

    grid: Grid
    points: tuple[Planned, ...]

    @property
    def starts(self) -> list[list[Planned]]:
        """The points of each start, in order."""
        numbers = dict.fromkeys(planned.start for planned in self.points)
        return [[planned for planned in self.points if planned.start == number] for number in numbers]


def plan_of(grid: Grid) -> Plan:
    """Settle every point. Raises the error of the first one that cannot be, with its place in front; starts nothing."""
    starts: dict[str, int] = {}
    found, longest = [], dict[int, int]()
    for point in grid.points:
        setting = _settled(point)
        number = starts.setdefault(_start_key(setting), len(starts) + 1)
        longest[number] = max(longest.get(number, 0), setting.max_model_len)
        runs = setting.planned_runs
        found.append(
            Planned(
                point, number, tuple(setting.arms), len(runs), len(setting.data.prompts), setting.max_model_len, setting.notes
            )
        )
    return Plan(grid, tuple(replace(planned, max_model_len=longest[planned.start]) for planned in found))


def _settled(point: Point) -> Setting:
    try:
        setting = settle(point.experiment)
        setting.without_peers("ttft sweep")
        return setting
    except TtftError as error:
        raise type(error)(f"point {point.number} ({point.text}): {error}") from error


def setting_of(planned: Planned) -> Setting:
    """The point's setting anew (prompts are not kept for all points at once), with the context length of its start."""
    return replace(_settled(planned.point), max_model_len=planned.max_model_len)


def _start_key(setting: Setting) -> str:
    """Equal if vLLM would be started in the same way, apart from the longest context."""
    settings = engine_settings(setting, setting.dtype, Path("span_log"), save=False)
    parts = {name: getattr(settings, name) for name in settings.__dataclass_fields__ if name != "max_model_len"}
    return json.dumps([parts, setting.experiment.target], sort_keys=True, default=str)


def by_store(starts: Sequence[Sequence[Planned]]) -> str:
    """``2 starts of vLLM: points 1 to 4; 5 to 8``, for the plan that is printed."""
    parts = [listed([planned.point.number for planned in start]) for start in starts]
    word = "start" if len(parts) == 1 else "starts"
    return f"{len(parts)} {word} of vLLM: points " + "; ".join(parts)


def listed(numbers: Sequence[int]) -> str:
    """``1 to 4, 6, 7`` for growing numbers: three or more in a row are shown by their ends."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]} to {part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in parts)
