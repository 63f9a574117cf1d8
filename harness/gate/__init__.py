"""The gate: stored results and margins in, a verdict that CI can trust out. Nothing here measures or prints.

parse_margins(["p50:5%"])                          -> {"p50": 0.05}
judge_run(run, candidate, base, margins)           -> Verdict   two arms of one run, in pairs
judge_runs(run_a, run_b, margins, relative_to=...) -> Verdict   two stored runs
judge_by_plan(run, candidate, base, margins, plan) -> Verdict   at the looks of a declared plan
judge(comparisons, margins)                        -> Verdict   the decision alone
Verdict.to_json(), .exit_code, .sentence; markdown(v), junit(v), annotations(v)
"""

from harness.core.budget import Budget, parse_duration
from harness.gate.judge import judge, parse_margins, refused
from harness.gate.outputs import annotations, junit, markdown, schema
from harness.gate.planned import PlanWatch, default_looks, judge_by_plan, plan_of
from harness.gate.stored import judge_run, judge_runs
from harness.gate.verdict import Outcome, Verdict

__all__ = [
    "Budget",
    "Outcome",
    "PlanWatch",
    "Verdict",
    "annotations",
    "default_looks",
    "judge",
    "judge_by_plan",
    "judge_run",
    "judge_runs",
    "junit",
    "markdown",
    "parse_duration",
    "parse_margins",
    "plan_of",
    "refused",
    "schema",
]
