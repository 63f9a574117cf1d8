"""Holm's correction: many questions asked of one run raise no more false alarms than one."""

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the given order (Holm, Scandinavian Journal of Statistics 6, 1979).

    Reject where the adjusted value is at most alpha: the chance of any false rejection is then at most alpha,
    whatever the dependence between the tests.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for done, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - done) * p_values[place]))
        adjusted[place] = highest
    return adjusted
