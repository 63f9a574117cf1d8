"""How long requests waited for loads between steps: the part of ``queue_s`` in which vLLM kept them out for that reason."""

import pandas as pd

from harness.results.evidence import Arm, Evidence

ENGINES = ("deferred",)
"""Those that always load between steps, so that vLLM counts the wait for a load as queue."""


def waited_s(evidence: Evidence, arm: Arm, rows: pd.DataFrame) -> float:
    """Mean seconds a request of ``rows``, which are the arm's: from its first fetch to the step that it computes in.

    The step's own waits are its stall. 0 for engines that load within steps, and for a measurement without spans.
    """
    if arm.engine not in ENGINES or not len(rows):
        return 0.0
    spans = evidence.run.spans
    spans = spans[spans["run"].isin(rows["run"].unique())]
    request = ["run", "request"]
    times = {kind: spans[spans["kind"] == kind].groupby(request)["start_s"].min() for kind in ("fetch", "forward")}
    waited = (times["forward"] - times["fetch"]).clip(lower=0.0).rename("waited")
    found = rows.merge(waited, left_on=["run", "prompt"], right_index=True, how="left")
    return float(found[["waited", "queue_s"]].astype("float64").fillna(0.0).min(axis=1).mean())
