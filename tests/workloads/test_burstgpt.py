from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.testing.workloads import WorkloadTests, build
from harness.workloads.base import Limits
from harness.workloads.burstgpt import BurstGPT

LIMITS = Limits(vocabulary=2**31, max_tokens=10_000, chunk_tokens=16)
HEADER = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"
ROWS = [
    "5,ChatGPT,472,18,490,Conversation log",
    "45.5,ChatGPT,1087,2,1089,API log",
    "118,GPT-4,417,276,693,Conversation log",
    "118,GPT-4,360,0,360,API log",
    "300,GPT-4,0,3,3,API log",
]


def write(path: Path, rows: list[str] = ROWS, header: str = HEADER) -> str:
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


class TestBurstGPT(WorkloadTests):
    workload = BurstGPT

    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, Any]:
        return {"path": write(tmp_path / "b.csv"), "shared": 32}


def test_rows_become_prompts_without_those_that_failed(tmp_path: Path) -> None:
    data = build(BurstGPT, {"path": write(tmp_path / "b.csv")}, LIMITS)
    assert [(p.id, len(p.tokens), p.output_tokens, p.arrival_s, p.prefix_tokens) for p in data.prompts] == [
        ("line2", 472, 4, 0.0, 0),
        ("line3", 1087, 2, 40.5, 0),
        ("line4", 417, 4, 113.0, 0),
    ]
    assert data.notes[1:] == (
        "Skipped 1 of 5 requests read: they failed in the trace (0 response tokens).",
        "Skipped 1 of 5 requests read: they have no request tokens.",
    )
    assert "no prompt hits anything" in data.notes[0]


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({"failed": "keep"}, ["line2", "line3", "line4", "line5"]),
        ({"model": "GPT-4"}, ["line4"]),
        ({"log": "API log"}, ["line3"]),
        ({"model": "GPT-4", "log": "API log", "failed": "keep"}, ["line5"]),
        ({"start_s": 40, "end_s": 113}, ["line3"]),
        ({"limit": 2}, ["line2", "line3"]),
    ],
)
def test_requests_can_be_chosen(tmp_path: Path, options: dict[str, Any], ids: list[str]) -> None:
    data = build(BurstGPT, {"path": write(tmp_path / "b.csv"), **options}, LIMITS)
    assert [prompt.id for prompt in data.prompts] == ids
    assert all(prompt.output_tokens >= 1 for prompt in data.prompts)


def test_columns_of_later_releases_are_ignored_in_any_order(tmp_path: Path) -> None:
    header = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type"
    path = write(tmp_path / "b.csv", ["7,s1,3.5,GPT-4,40,2,42,API log"], header)
    (prompt,) = build(BurstGPT, {"path": path}, LIMITS).prompts
    assert (len(prompt.tokens), prompt.arrival_s) == (40, 0)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("4,GPT-4,1,1,2,API log", "Timestamp=4 lies before the 5 of an earlier line; sort the trace by time"),
        ("-1,GPT-4,1,1,2,API log", "Timestamp='-1' is invalid"),
        ("nan,GPT-4,1,1,2,API log", "Timestamp='nan' is invalid"),
        ("6,GPT-4,-1,1,0,API log", "Request tokens='-1' is invalid"),
        ("6,GPT-4,1,x,0,API log", "Response tokens='x' is invalid"),
        ("6,GPT-4,1,1,3,API log", "Total tokens=3 is not Request tokens=1 plus Response tokens=1"),
        ("6,GPT-4,1,1,2", "has 5 fields, and the header 6"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(UsageError, match=rf"b\.csv:3: {message}"):
        build(BurstGPT, {"path": write(tmp_path / "b.csv", [ROWS[0], row])}, LIMITS)


def test_another_model_than_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"all 5 requests .* are skipped: they went to another model than GPT-5"):
        build(BurstGPT, {"path": write(tmp_path / "b.csv"), "model": "GPT-5"}, LIMITS)
