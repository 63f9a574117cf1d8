"""A sweep's folder made up of synthetic runs: no number in it was measured."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.experiment.settings import merge
from harness.experiment.sweep.axes import parse_axes
from harness.experiment.sweep.grid import grid_of
from harness.experiment.sweep.state import Progress, State
from harness.testing.runs import write_synthetic_run

ARMS = ["chunkwise:pool=0", "layerwise:depth=4"]


def made_up(
    folder: Path,
    vary: Sequence[str],
    seconds: Callable[[Mapping[str, str], str], float],
    arms: Sequence[str] = ARMS,
    skip: Sequence[int] = (),
    rounds: int = 8,
    noise: float = 0.03,
) -> State:
    """``seconds`` gives an arm's mean TTFT by the point's values and the arm; points in ``skip`` failed."""
    grid = grid_of(merge({"arms": list(arms), "store": "shaped+file:///tmp/kv"}), parse_axes(vary))
    state = State.new(folder, "made-up", "ttft sweep", grid)
    for point in grid.points:
        if point.number in skip:
            state.note(point.number, Progress("failed", "there is no such thing"))
            continue
        means = {arm: seconds(point.values, arm) for arm in point.experiment.arms}
        assert all(math.isfinite(mean) for mean in means.values())
        write_synthetic_run(
            state.run_folder(point.number), arms=point.experiment.arms, rounds=rounds, prompts=12, seed=point.number, noise=noise,
            spans=False, mean_s=means,
        )  # fmt: skip
        state.note(point.number, Progress("complete", "", 60.0, 20.0))
    return state
