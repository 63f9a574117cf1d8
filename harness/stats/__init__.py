"""Statistics of a measurement, pure: frames and arrays in, frozen values out; every estimate with its n, interval and warnings.

The unit is the run (one replay of the whole workload by one arm), never the request. ``frame`` is
always ``results.Measurement.counted`` or rows like it: columns run, round, position, arm, prompt and the
seconds asked for (``ttft_s`` unless ``column`` says otherwise).

    summary(frame) -> DataFrame                       one row per arm: runs, requests, each metric with its interval
    compare(frame, base, candidate) -> [Comparison]   candidate over base, one entry per metric
    share_hidden(frame, arm, chunkwise, floor) -> Share   the part of chunkwise's load that an arm hides
    shift_function(frame, base, candidate) -> Shift   the ratio decile by decile, with simultaneous intervals
    ratio_of_ratios(new, old) -> [Comparison]         two comparisons from different measurements, against each other
    compare_unpaired(base_frame, base, candidate_frame, candidate) -> [Comparison]   two measurements with no rounds in common
    outlier_runs, drift                               warnings about the data; they flag and never drop
    harrell_davis, interval, Plan                     the parts

How intervals are made, and why so: docs/decisions/0003-interval.md.
"""

from harness.stats.compare import Comparison, compare, few_requests
from harness.stats.location import Interval, interval, lower_bound, pseudomedian, upper_bound
from harness.stats.quality import Drift, drift, outlier_runs, outliers
from harness.stats.quantiles import METRICS, harrell_davis, metric_of, parse_metric, requests_least, requests_needed
from harness.stats.runs import run_table
from harness.stats.sequential import Plan
from harness.stats.share import Share, share_hidden
from harness.stats.shift import Shift, shift_function
from harness.stats.summary import summary
from harness.stats.unpaired import compare_unpaired, ratio_of_ratios

__all__ = [
    "METRICS",
    "Comparison",
    "Drift",
    "Interval",
    "Plan",
    "Share",
    "Shift",
    "compare",
    "compare_unpaired",
    "drift",
    "few_requests",
    "harrell_davis",
    "interval",
    "lower_bound",
    "metric_of",
    "outlier_runs",
    "outliers",
    "parse_metric",
    "pseudomedian",
    "ratio_of_ratios",
    "requests_least",
    "requests_needed",
    "run_table",
    "share_hidden",
    "shift_function",
    "summary",
    "upper_bound",
]
