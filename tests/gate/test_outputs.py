"""What CI systems get: valid against the schema, well-formed, and safe whatever the names hold."""

import json
import xml.etree.ElementTree as ET

import jsonschema
import pytest

from harness.core.findings import Finding, Kind, found
from harness.gate import Outcome, Verdict, annotations, judge, junit, markdown, refused, schema
from harness.stats import compare
from harness.testing.frames import make_frame

NASTY = "a|<b>&\x1b[31m%:,`"


def said(text: str) -> Finding:
    return found(Kind.RECORDED, text=text)


def verdict_of(change: float, pairs: int = 8, name: str = "b") -> Verdict:
    found = compare(make_frame({"a": 1, name: change}, pairs=pairs), "a", name, ["p50", "mean"])
    return judge(found, {"p50": 0.05, "mean": 0.05})


VERDICTS = {
    Outcome.PASS: verdict_of(1.0),
    Outcome.FAIL: verdict_of(1.3),
    Outcome.INCONCLUSIVE: verdict_of(1.05, pairs=1),
    Outcome.REFUSED: refused("a", NASTY, [said("the hits differ"), said("100% of it: failed\nbadly")], warnings=[said("beware")]),
}


@pytest.mark.parametrize("outcome", list(Outcome))
def test_json_is_valid_and_strict(outcome: Outcome) -> None:
    verdict = VERDICTS[outcome]
    assert verdict.outcome is outcome
    text = json.dumps(verdict.to_json(), allow_nan=False)
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(json.loads(text), schema())
    assert json.loads(text)["outcome"] == str(outcome)
    assert json.loads(text)["exit_code"] == verdict.exit_code


def test_the_schema_refuses_what_is_none() -> None:
    broken = VERDICTS[Outcome.PASS].to_json() | {"outcome": "MAYBE"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema())
    unknown = VERDICTS[Outcome.INCONCLUSIVE].to_json()["metrics"][0]
    assert unknown["high"] is None and unknown["low"] == 0


@pytest.mark.parametrize(
    ("outcome", "tag", "count"),
    [(Outcome.PASS, None, 2), (Outcome.FAIL, "failure", 2), (Outcome.INCONCLUSIVE, "skipped", 2), (Outcome.REFUSED, "error", 1)],
)
def test_junit(outcome: Outcome, tag: str | None, count: int) -> None:
    root = ET.fromstring(junit(VERDICTS[outcome]).split("?>", 1)[1])
    suite = root.find("testsuite")
    assert root.tag == "testsuites" and suite is not None
    cases = suite.findall("testcase")
    assert len(cases) == count == int(suite.attrib["tests"])
    for name, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.attrib[name]) == (count if kind == tag else 0)
        assert len(suite.findall(f"testcase/{kind}")) == int(suite.attrib[name])
    assert VERDICTS[outcome].outcome in suite.findtext("system-out", "")


def test_junit_of_a_failure_says_how_bad() -> None:
    case = ET.fromstring(junit(VERDICTS[Outcome.FAIL]).split("?>", 1)[1]).find("testsuite/testcase")
    assert case is not None and case.attrib["name"] == "p50 within 5%"
    failure = case.find("failure")
    assert failure is not None and failure.attrib["message"].startswith("p50 fails: at least ")


@pytest.mark.parametrize("outcome", list(Outcome))
def test_markdown(outcome: Outcome) -> None:
    text = markdown(VERDICTS[outcome])
    assert text.startswith("### ") and f" {outcome}: " in text.splitlines()[0]
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == (0 if outcome is Outcome.REFUSED else 4)
    assert len({line.count("|") for line in rows}) <= 1
    for warning in VERDICTS[outcome].warnings:
        assert str(warning) in text


def test_warnings_of_one_metric_are_not_lost() -> None:
    frame = make_frame({"a": 1, "b": 1}, prompts=24)
    verdict = judge(compare(frame, "a", "b", ["p50", "p90"]), {"p50": 0.05, "p90": 0.05})
    sentence = "p90 needs at least 50 requests per run; the shortest has 24"
    assert sentence in markdown(verdict) and any(line.endswith(sentence) for line in annotations(verdict))


def test_markdown_of_nasty_names() -> None:
    text = markdown(VERDICTS[Outcome.REFUSED])
    assert "<b>" not in text and "\x1b" not in text and "a\\|" in text


def test_annotations_are_one_line_each() -> None:
    lines = annotations(VERDICTS[Outcome.REFUSED])
    assert lines[0] == "::error title=TTFT gate%3A REFUSED::the hits differ"
    assert lines[1].startswith("::error title=TTFT gate%3A REFUSED::100%25 of it: failed")
    assert lines[2] == "::notice title=TTFT gate::beware"
    assert all("\n" not in line for line in lines)
    levels = [annotations(VERDICTS[outcome])[0].split(" ")[0] for outcome in (Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE)]
    assert levels == ["::notice", "::error", "::warning"]
