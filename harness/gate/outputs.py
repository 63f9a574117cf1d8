"""A verdict as CI systems read it: Markdown, JUnit XML, GitHub's annotations."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from harness.core.table import Cell, Table
from harness.core.text import markdown as plain
from harness.core.text import printable
from harness.gate.verdict import LimitVerdict, MetricVerdict, Outcome, Verdict, ms

SIGNS = {Outcome.PASS: "✅", Outcome.FAIL: "❌", Outcome.INCONCLUSIVE: "❔", Outcome.REFUSED: "⛔"}
"""Beside the words, never in their place."""


def schema() -> dict[str, Any]:
    """The JSON Schema of Verdict.to_json()."""
    text = files("harness.gate").joinpath("verdict.schema.json").read_text(encoding="utf-8")
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def markdown(verdict: Verdict) -> str:
    """For a step summary or a comment: a headline, a table of metrics, reasons and warnings."""
    lines = [f"### {SIGNS[verdict.outcome]} {verdict.outcome}: {plain(verdict.candidate)} against {plain(verdict.base)}", ""]
    if verdict.refusals:
        lines += ["No verdict, because:", "", *(f"- {plain(reason)}" for reason in verdict.refusals), ""]
    if verdict.metrics:
        head = ["metric", "margin", "ratio", "interval", "verdict", "further pairs"]
        lines += [Table("", head, [_row(metric) for metric in verdict.metrics]).to_markdown()]
        lines += [""]
    if verdict.limits:
        head = ["metric", "limit", f"{verdict.candidate}", "interval", "verdict", "further pairs"]
        lines += [Table("", head, [_limit_row(limit) for limit in verdict.limits]).to_markdown(), ""]
    if verdict.judged:
        rate = f"error rate {100 * verdict.alpha:g}% (one-sided, corrected for {len(verdict.judged)} metrics)"
        meaning = " A ratio above 1 means a higher TTFT." if verdict.metrics else ""
        lines += [f"{verdict.n_pairs} pairs of runs, {rate}.{meaning}", ""]
    if verdict.all_warnings:
        lines += ["Read beside it:", "", *(f"- {plain(text)}" for text in verdict.all_warnings), ""]
    return "\n".join(lines)


def _row(metric: MetricVerdict) -> list[Cell]:
    numbers = (f"{100 * metric.margin:g}%", f"{metric.ratio:.3f}", f"{metric.low:.3f} to {metric.high:.3f}")
    return [Cell(text) for text in (metric.metric, *numbers, *_ending(metric))]


def _limit_row(limit: LimitVerdict) -> list[Cell]:
    numbers = (ms(limit.limit_s), ms(limit.value_s), f"{ms(limit.low_s)} to {ms(limit.high_s)}")
    return [Cell(text) for text in (limit.metric, *numbers, *_ending(limit))]


def _ending(one: MetricVerdict | LimitVerdict) -> tuple[str, str]:
    further = "-"
    if one.outcome is Outcome.INCONCLUSIVE:
        further = "none will do" if one.further_pairs is None else f"≥ {one.further_pairs}"
    return f"{SIGNS[one.outcome]} {one.outcome}", further


def junit(verdict: Verdict) -> str:
    """JUnit XML: one test case per metric and limit. FAIL is a failure, INCONCLUSIVE is skipped, REFUSED an error."""
    name = printable(f"ttft gate: {verdict.candidate} against {verdict.base}")
    cases = [_case(name, one) for one in verdict.judged] if verdict.outcome is not Outcome.REFUSED else []
    if verdict.outcome is Outcome.REFUSED:
        case = ET.Element("testcase", classname=name, name="verdict", time="0")
        ET.SubElement(case, "error", type="REFUSED", message=printable(verdict.refusals[0])).text = _lines(verdict.refusals)
        cases = [case]
    counts = {tag: str(sum(case.find(tag) is not None for case in cases)) for tag in ("failure", "error", "skipped")}
    totals = {"tests": str(len(cases)), "failures": counts["failure"], "errors": counts["error"], "skipped": counts["skipped"]}
    root = ET.Element("testsuites", {"name": "ttft gate", "time": "0", **totals})
    suite = ET.SubElement(root, "testsuite", {"name": name, "time": "0", **totals})
    suite.extend(cases)
    ET.SubElement(suite, "system-out").text = _lines([verdict.sentence, *verdict.warnings])
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: str, metric: MetricVerdict | LimitVerdict) -> ET.Element:
    most = f"below {ms(metric.limit_s)}" if isinstance(metric, LimitVerdict) else f"within {100 * metric.margin:g}%"
    case = ET.Element("testcase", classname=suite, name=f"{metric.metric} {most}", time="0")
    tag = {Outcome.FAIL: "failure", Outcome.INCONCLUSIVE: "skipped"}.get(metric.outcome)
    if tag:
        sentence = printable(metric.sentence)
        ET.SubElement(case, tag, type=str(metric.outcome), message=sentence).text = sentence
    ET.SubElement(case, "system-out").text = _lines([metric.sentence, *metric.warnings])
    return case


def _lines(texts: Sequence[object]) -> str:
    return "\n".join(printable(text) for text in texts)


def annotations(verdict: Verdict) -> list[str]:
    """GitHub workflow commands, one line each: what failed or was refused, then the warnings.

    https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions
    """
    level = {Outcome.PASS: "notice", Outcome.INCONCLUSIVE: "warning"}.get(verdict.outcome, "error")
    title = f"TTFT gate: {verdict.outcome}"
    decisive = [one.sentence for one in verdict.judged if one.outcome is verdict.outcome]
    texts: list[object] = [*verdict.refusals] or [*decisive]
    return [_command(level, title, text) for text in texts] + [
        _command("notice", "TTFT gate", text) for text in verdict.all_warnings
    ]


def _command(level: str, title: str, text: object) -> str:
    body = printable(text).replace("%", "%25")
    head = printable(title).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={head}::{body}"
