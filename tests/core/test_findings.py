"""Findings: values with words that come last, and no code that looks into a sentence for its meaning."""

import re
import string
from pathlib import Path

import pytest

from harness.core.findings import Finding, Kind, Severity, found

HARNESS = Path(__file__).resolve().parents[2] / "harness"

SENTENCE = "(text|line|sentence|verdict|warning|caveat|headline|reason)"
PARSED = {
    r"\.isupper\(\)": "asks how a sentence is written; ask a finding for its severity",
    r"split\(\"; \"\)": "takes joined sentences apart; keep the list",
    r"partition\(\"(: |; |;)\"\)": "cuts words off a sentence; keep its parts as values",
    r"(starts|ends)with\(\(?f?\"(VOID|PARTIAL|NO VERDICT|FAILED|CORRECTNESS|not |no )": "asks for a sentence's first words",
    rf"\"[^\"]*[A-Za-z]{{3}}[^\"]*\" (not )?in {SENTENCE}\b": "looks for words in a sentence",
    rf"\bany\(\w+ in {SENTENCE} for": "looks for words in a sentence",
    r"str\((one|finding|warning)\)\.": "takes the words of a value apart",
    r"remove(prefix|suffix)\((ADVICE|\"the )": "cuts words off a sentence",
}
"""Ways in which meaning has been read off sentences here, and what is wrong with each."""


def parsed(text: str) -> list[str]:
    return [why for pattern, why in PARSED.items() if re.search(pattern, text)]


def test_no_code_looks_into_a_sentence_for_its_meaning() -> None:
    lines = [
        f"{file.relative_to(HARNESS)}:{number}: {why}"
        for room in ("core", "results", "stats", "gate", "reporting", "commands", "report.py")
        for file in ([HARNESS / room] if room.endswith(".py") else sorted((HARNESS / room).rglob("*.py")))
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        for why in parsed(line)
    ]
    assert lines == []


@pytest.mark.parametrize(
    "line",
    [
        'style="bold red" if text.isupper() else "yellow"',
        'warnings = [*str(row["warnings"]).split("; "), *doubts]',
        """found[0].partition(': ')[2].rpartition(';')[0]""".replace("'", '"'),
        'if verdict.startswith(("VOID: ", "NO VERDICT")):',
        'return "open" if "LEFT OUT (" in verdict else "good"',
        "elif any(word in text for word in DRIFTING):",
        'what = text.removeprefix("the environments differ: ").removesuffix(ADVICE)',
    ],
)
def test_the_sites_that_there_were_would_be_found(line: str) -> None:
    assert parsed(line)


def made(kind: Kind) -> Finding:
    """A finding with a fact for each place of its template."""
    facts: dict[str, object] = {}
    for _, name, form, _ in string.Formatter().parse(kind.words):
        if name and name != "subject":
            noun = (form or "").partition(" ")[0]
            facts[name] = {
                "named": (3, 4), "list": tuple(range(9)), "both": ("a", "b"), "needs": (("p95", 20), ("p99", 100)), "": "x",
                "of": 6, "aside": "why",
            }.get(noun, 2)  # fmt: skip
    return found(kind, "redis://me:hunter2@host", **facts)


@pytest.mark.parametrize("kind", Kind)
def test_every_finding_has_words_a_severity_and_no_secrets(kind: Kind) -> None:
    text = str(made(kind))
    assert text and "hunter2" not in text and not text.endswith(".") and "{" not in text
    assert kind.severity in Severity
    assert hash(made(kind)) == hash(made(kind)) and made(kind) == made(kind)


def test_kinds_are_told_apart_by_their_words() -> None:
    assert len(list(Kind)) == len(Kind.__members__)  # two equal values would be one kind


def test_numbers_and_names_are_written_as_people_write_them() -> None:
    one = found(Kind.VOID_RUNS, count=1, total=1, runs=(7,), reason="x")
    many = found(Kind.VOID_RUNS, count=10, total=1200, runs=tuple(range(10)), reason="x")
    assert str(one) == "VOID: 1 of 1 run excluded (run 7): x"
    assert str(many) == "VOID: 10 of 1,200 runs excluded (runs 0, 1, 2, 3, 4, 5, 6, 7, …): x"


def test_what_holds_for_some_arms_says_for_which_unless_it_names_them() -> None:
    odd = found(Kind.ODD_RUN, "a", run=3, metric="p50", value=0.2, median=0.1)
    assert odd.limited("a") == odd
    assert str(odd.limited("a", "b")).startswith("a, b: run 3 of 'a' stands out: its p50 is 200.0 ms")
