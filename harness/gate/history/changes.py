"""Change points: where a ratio took a new level and stayed there.

PELT (Killick, Fearnhead and Eckley, JASA 107, 2012) with the squared error of log ratios, as ``ruptures``
has it. Its penalty comes from the series' own noise: it is what the best single cut gains in all but ALPHA
of the series' shuffles. In a shuffled series no cut means anything, whatever its noise looks like, so heavy
tails and outliers raise the penalty by themselves. Where there are changes, what they explain is taken out and
the search is done once more, so that a large step hides no small one. A verdict alone is never a change: a level lasts at least
SHORTEST verdicts.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.core.errors import SetupError
from harness.gate.history.series import Series

ALPHA = 0.01
"""How often a series without any change may be given one."""
SHORTEST = 5
LEAST = 2 * SHORTEST
"""Fewer verdicts than this are not looked at."""
SHUFFLES = 999
TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Change:
    """A new level. ``time`` and ``commit`` are those of the first verdict on it; levels are median ratios."""

    place: int
    time: str
    commit: str
    before: float
    after: float
    n_before: int
    n_after: int


def changes(series: Series) -> list[Change]:
    """The changes of one series, in time order. Raises SetupError without ruptures."""
    ratios = series.rows["ratio"].to_numpy(dtype=np.float64)
    edges = [0, *change_points(np.log(ratios)), len(ratios)]
    found = []
    for start, place, end in zip(edges, edges[1:], edges[2:], strict=False):
        row = series.rows.iloc[place]
        before, after = (float(np.median(part)) for part in (ratios[start:place], ratios[place:end]))
        found.append(Change(place, str(row["time"]), str(row["commit"]), before, after, place - start, end - place))
    return found


def change_points(values: npt.ArrayLike, alpha: float = ALPHA, seed: int = 0) -> list[int]:
    """Places in ``values``, shape (n,), at which a new level begins; none if n < LEAST.

    Same values, same places: the shuffles are seeded. They assume that without a change any order of the values is as
    likely as any other; noise that resembles its neighbours makes more alarms. Raises SetupError without ruptures.
    """
    series = np.asarray(values, dtype=np.float64)
    if len(series) < LEAST or np.ptp(series) < 1e-9:
        return []
    scaled = (series - series.mean()) / series.std()
    search = _ruptures().KernelCPD(kernel="linear", min_size=SHORTEST, jump=1).fit(scaled.reshape(-1, 1))
    generator = np.random.default_rng(seed)
    found = _cuts(search, noise_penalty(scaled, alpha, generator))
    if found:
        # The first shuffles took the steps for noise. Without the steps found so far the penalty is that of the noise alone.
        rest = np.concatenate([part - part.mean() for part in np.split(scaled, found)])
        found = _cuts(search, max(noise_penalty(rest, alpha, generator), TINY))
    return found


def _cuts(search: Any, penalty: float) -> list[int]:
    return [int(place) for place in search.predict(pen=penalty)[:-1]]


def noise_penalty(values: npt.NDArray[np.float64], alpha: float, generator: np.random.Generator) -> float:
    """What the best cut gains in all but ``alpha`` of the shuffles of ``values``, shape (n,) with mean 0."""
    gains = [best_cut(generator.permutation(values)) for _ in range(SHUFFLES)]
    return float(np.quantile(gains, 1 - alpha, method="higher"))


def best_cut(values: npt.NDArray[np.float64]) -> float:
    """By how much the best single cut of ``values``, shape (n,) with mean 0, lowers the sum of squared errors."""
    n = len(values)
    places = np.arange(SHORTEST, n - SHORTEST + 1)
    heads = np.cumsum(values)[places - 1]
    return float(np.max(heads**2 * n / (places * (n - places))))


def _ruptures() -> Any:
    try:
        import ruptures
    except ImportError as error:
        raise SetupError("change points need the package ruptures: pip install 'ttft[trend]'") from error
    return ruptures
