"""Which few arms are worth measuring where store and model are known, and how long the model computes is not."""

from collections.abc import Sequence

from harness.reporting.forecast.basis import Basis
from harness.reporting.forecast.curve import Curve
from harness.reporting.forecast.grid import BASE, Grid, complexity
from harness.reporting.forecast.prediction import Setup
from harness.reporting.forecast.recommend import Advice, advise
from harness.results.evidence import Arm

COMPUTES_S = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Forwards that are tried: the measurement tells which of them is the model's."""
SAME_IN_ALL = Grid(groups=("1", "4"))
"""Arms that are the same for every forward and prefix; the groups that ``auto`` stands for are not."""
MARGIN = 0.05
"""Leads up to this share of TTFT do not count, as for ``ttft predict``."""


def shortlist(setup: Setup, prefixes: Sequence[int]) -> list[str]:
    """Two to four arms as ``--arm`` takes them, the simplest first: chunkwise:pool=0, of each engine the arm that loses least
    in its worst case (over ``prefixes`` in tokens and COMPUTES_S), and the arm that is recommended in most cases.

    Raises UsageError as ``advise`` does.
    """
    cases = [one for compute in COMPUTES_S for one in _advices(setup, prefixes, compute)]
    arms = {one.arm.name: one.arm for one in cases[0].forecasts}
    worst = dict.fromkeys(arms, 0.0)
    for case in cases:
        for one in case.forecasts:
            worst[one.arm.name] = max(worst[one.arm.name], one.ttft_s / case.soonest.ttft_s)
    often = [case.recommended.arm.name for case in cases]
    chosen = {BASE, max(sorted(set(often)), key=often.count)}
    chosen |= {_safest([arm for arm in arms.values() if arm.engine == engine], worst) for engine in ("chunkwise", "layerwise")}
    return sorted(chosen, key=lambda name: complexity(arms[name]))


def _advices(setup: Setup, prefixes: Sequence[int], compute_s: float) -> list[Advice]:
    return advise(Basis(setup, Curve.of("the forward", {0: compute_s})), SAME_IN_ALL, prefixes, MARGIN)


def _safest(arms: Sequence[Arm], worst: dict[str, float]) -> str:
    """The simplest of those whose worst case is within MARGIN of the best one."""
    least = min(worst[arm.name] for arm in arms)
    return min((arm for arm in arms if worst[arm.name] <= least * (1 + MARGIN)), key=complexity).name
