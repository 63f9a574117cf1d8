"""Change points of `ttft trend`, simulated: how often a series without a change is given one, and how often a step is found.

    python benchmarks/trend_simulation.py [--alarms 200] [--steps 50]

Prints the table of docs/gate.md, "History and trend".
"""

import argparse

import numpy as np

from harness.gate.history import change_points

NOISES = ("normal", "student", "outliers", "neighbours")
STEPS = (1.5, 2.0, 3.0)
SIZES = (10, 20, 50, 150)


def noise(kind: str, n: int, generator: np.random.Generator) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """A series without a change, of standard deviation about 1."""
    if kind == "student":
        return np.asarray(generator.standard_t(3, n) / 3**0.5)
    values = generator.standard_normal(n)
    if kind == "outliers":
        values[generator.random(n) < 0.05] *= 6
    if kind == "neighbours":
        for place in range(1, n):
            values[place] = 0.3 * values[place - 1] + values[place] * (1 - 0.3**2) ** 0.5
    return np.asarray(values)


def alarms(kind: str, n: int, trials: int, generator: np.random.Generator) -> float:
    """Share of series without a change that are given one."""
    return sum(bool(change_points(noise(kind, n, generator), seed=trial)) for trial in range(trials)) / trials


def found(step: float, n: int, trials: int, generator: np.random.Generator) -> float:
    """Share of series with a step in the middle in which that one, and no other, is found within 2 places."""
    hits = 0
    for trial in range(trials):
        values = noise("normal", n, generator)
        values[n // 2 :] += step
        places = change_points(values, seed=trial)
        hits += len(places) == 1 and abs(places[0] - n // 2) <= 2
    return hits / trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alarms", type=int, default=200, help="series without a change, a cell")
    parser.add_argument("--steps", type=int, default=50, help="series with a step, a cell")
    wanted = parser.parse_args()
    generator = np.random.default_rng(1)
    columns = [*(f"false alarms: {kind}" for kind in NOISES), *(f"{step:g} sd found" for step in STEPS)]
    print("| verdicts | " + " | ".join(columns) + " |")
    for n in SIZES:
        rates = [f"{100 * alarms(kind, n, wanted.alarms, generator):.1f}%" for kind in NOISES]
        hits = [f"{100 * found(step, n, wanted.steps, generator):.0f}%" for step in STEPS]
        print(f"| {n} | " + " | ".join([*rates, *hits]) + " |", flush=True)


if __name__ == "__main__":
    main()
