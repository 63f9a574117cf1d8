"""Measured TTFT beside the recurrence's prediction, from a stored run on a shaped store that has a floor arm.

    python benchmarks/prediction.py RUN

Compute comes from the floor arm of the same run, latency and bandwidth from the store's URL, one request at a time.
"""

import sys

from harness.core.errors import ResultsError
from harness.reporting.forecast.prediction import predictions
from harness.results import load
from harness.results.evidence import gather


def main(path: str) -> None:
    try:
        found = predictions(gather(load(path)))
    except ResultsError as error:
        raise SystemExit(f"{path}: {error}") from None
    for arm, rows in found.groupby("arm", sort=False):
        measured, predicted = rows["measured_s"].median(), rows["predicted_s"].median()
        ratio = measured / predicted
        print(f"{arm}: measured {measured * 1e3:.0f} ms, predicted {predicted * 1e3:.0f} ms, ratio {ratio:.3f}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(sys.argv[1])
