"""What is tolerated: a margin per metric, as ``p50:5%``."""

import re
from collections.abc import Mapping, Sequence

from harness.core.errors import UsageError
from harness.stats import parse_metric


def parse_margins(specs: Sequence[str]) -> dict[str, float]:
    """``["p50:5%", "p95:10%"]`` to ``{"p50": 0.05, "p95": 0.10}``, in the given order.

    Raises UsageError for anything else: no margin at all, an unknown metric, one named twice, no percent
    sign, a margin of 0% or of more than 100%.
    """
    margins: dict[str, float] = {}
    for spec in specs:
        metric, colon, text = spec.partition(":")
        match = re.fullmatch(r"([+-]?\d+(?:\.\d*)?|[+-]?\.\d+)\s*%", text.strip())
        if not colon or not match:
            raise UsageError(f"'{spec}' is not a margin; write a metric and a percentage, as p50:5%")
        if metric in margins:
            raise UsageError(f"the metric '{metric}' has two margins; give one")
        margins[metric] = float(match[1]) / 100
    check_margins(margins)
    return margins


def check_margins(margins: Mapping[str, float]) -> None:
    """Raise UsageError if a margin (0.05 for 5%) cannot be meant."""
    if not margins:
        raise UsageError("no margin is given, so there is nothing to judge; give one per metric, as --max p50:5%")
    for metric, margin in margins.items():
        parse_metric(metric)
        if not margin > 0:
            raise UsageError(
                f"the margin of {metric} is {100 * margin:g}%; it must be above 0%, since noise alone makes a difference: "
                "`ttft calibrate` measures the smallest one that this machine can hold"
            )
        if margin > 1:
            raise UsageError(f"the margin of {metric} is {100 * margin:g}%; above 100% it tolerates anything: give at most 100%")
