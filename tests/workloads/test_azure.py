from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.experiment.cache_state import expected_hits
from harness.testing.workloads import WorkloadTests, build
from harness.workloads.azure import Azure
from harness.workloads.base import Limits

LIMITS = Limits(vocabulary=2**31, max_tokens=10_000, chunk_tokens=16)
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
OF_2023 = HEADER + ("2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,2\n2023-11-16 18:17:51.2224670,879,55\n")
OF_2024 = HEADER + (
    "2024-05-10 00:00:00.009930+00:00,374,44\n2024-05-10 00:00:04.324509+00:00,396,2\n2024-05-10 00:02:04.551807+00:00,879,55\n"
)


def write(path: Path, text: str = OF_2023) -> str:
    path.write_text(text)
    return str(path)


class TestAzure(WorkloadTests):
    workload = Azure

    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, Any]:
        return {"path": write(tmp_path / "azure.csv"), "shared": 32}


@pytest.mark.parametrize("text", [OF_2023, OF_2024, OF_2023.replace("\n", "\r\n"), "\ufeff" + OF_2024, OF_2023 + "\n\n"])
def test_both_years_give_lengths_and_times(tmp_path: Path, text: str) -> None:
    data = build(Azure, {"path": write(tmp_path / "a.csv", text)}, LIMITS)
    assert [prompt.id for prompt in data.prompts] == ["line2", "line3", "line4"]
    assert [len(prompt.tokens) for prompt in data.prompts] == [374, 396, 879]
    assert [prompt.output_tokens for prompt in data.prompts] == [4, 2, 4]
    assert [prompt.arrival_s for prompt in data.prompts] == pytest.approx([0, 4.314579, 124.541877], abs=2e-6)


def test_times_without_digits_behind_the_point_are_read(tmp_path: Path) -> None:
    text = HEADER + "2024-05-12 00:00:20.5+00:00,3,3\n2024-05-12 00:00:21+00:00,3,3\n2024-05-12 02:00:22+02:00,3,3\n"
    data = build(Azure, {"path": write(tmp_path / "a.csv", text)}, LIMITS)
    assert [prompt.arrival_s for prompt in data.prompts] == [0, 0.5, 1.5]


def test_without_an_assumption_nothing_hits_and_it_says_so(tmp_path: Path) -> None:
    data = build(Azure, {"path": write(tmp_path / "a.csv")}, LIMITS)
    assert {prompt.prefix_tokens for prompt in data.prompts} == {0}
    assert expected_hits(data, "natural", 1) == [0, 0, 0]
    assert "so no prompt hits anything" in data.notes[0]
    assert "shared=512" in data.notes[0]


def test_the_assumed_system_prompt_is_shared_and_called_an_assumption(tmp_path: Path) -> None:
    data = build(Azure, {"path": write(tmp_path / "a.csv"), "shared": 380}, LIMITS)
    assert [prompt.prefix_tokens for prompt in data.prompts] == [374, 380, 380]
    assert data.prompts[1].tokens[:380] == data.prompts[2].tokens[:380]
    assert data.prompts[1].tokens[380] != data.prompts[2].tokens[380]
    assert "assumed here: all prompts begin with the same 380 tokens" in data.notes[0]


def test_scale_shortens_prompts_but_not_the_assumption(tmp_path: Path) -> None:
    data = build(Azure, {"path": write(tmp_path / "a.csv"), "scale": 0.1, "shared": 30}, LIMITS)
    assert [(len(prompt.tokens), prompt.prefix_tokens) for prompt in data.prompts] == [(38, 30), (40, 30), (88, 30)]


@pytest.mark.parametrize(("scale", "length"), [(0.1, 3), (0.0001, 1), (1 / 3, 10), (2, 60)])
def test_scaled_lengths_round_up_but_for_what_binary_fractions_add(tmp_path: Path, scale: float, length: int) -> None:
    text = HEADER + "2024-05-10 00:00:00,30,5\n"
    (prompt,) = build(Azure, {"path": write(tmp_path / "a.csv", text), "scale": scale}, LIMITS).prompts
    assert len(prompt.tokens) == length


def test_window_ranges_and_limit(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv")
    windowed = build(Azure, {"path": path, "start_s": 4, "end_s": 100}, LIMITS)
    assert [prompt.id for prompt in windowed.prompts] == ["line3"]
    assert windowed.prompts[0].arrival_s == pytest.approx(0.314579, abs=2e-6)
    ranged = build(Azure, {"path": path, "min_input": 375, "max_input": 500}, LIMITS)
    assert [prompt.id for prompt in ranged.prompts] == ["line3"]
    assert "1 of 3 requests read have 375 to 500 tokens." in ranged.notes
    assert [prompt.id for prompt in build(Azure, {"path": path, "limit": 1}, LIMITS).prompts] == ["line2"]


def test_limit_reads_no_further(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", OF_2023 + "broken\n")
    assert len(build(Azure, {"path": path, "limit": 3}, LIMITS).prompts) == 3
    with pytest.raises(UsageError, match=r"a\.csv:5: has 1 fields"):
        build(Azure, {"path": path}, LIMITS)


def test_requests_without_context_are_left_out_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", OF_2023 + "2023-11-16 19:00:00,0,7\n")
    data = build(Azure, {"path": path}, LIMITS)
    assert len(data.prompts) == 3
    assert "Skipped 1 of 4 requests read: they have no context tokens." in data.notes
    with pytest.raises(UsageError, match=r"all 1 requests .* are skipped: they have no context tokens"):
        build(Azure, {"path": path, "start_s": 1000}, LIMITS)


def test_nothing_fits_names_a_scale_that_does(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv")
    narrow = Limits(vocabulary=1000, max_tokens=300, chunk_tokens=16)
    with pytest.raises(UsageError, match=r"374 to 879 tokens.*allows 300.*or over_long=truncate") as caught:
        build(Azure, {"path": path}, narrow)
    scale = str(caught.value).partition("use scale=")[2].split()[0]
    assert len(build(Azure, {"path": path, "scale": scale}, narrow).prompts) == 3


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2023-11-16 18:15:45,1,1", "TIMESTAMP=2023-11-16 18:15:45.000000 lies before the 2023-11-16 18:15:50"),
        ("2023-11-16 18:15:51,-1,1", "ContextTokens='-1' is invalid"),
        ("2023-11-16 18:15:51,1,-1", "GeneratedTokens='-1' is invalid"),
        ("2023-11-16 18:15:51,many,1", "ContextTokens='many' is invalid"),
        ("2023-11-16 18:15:51,1.5,1", r"ContextTokens='1\.5' is invalid"),
        ("2023-11-16 18:15:51,,1", "ContextTokens='' is invalid"),
        ("2023-11-16 18:15:51,99999999999,1", "ContextTokens='99999999999' is invalid"),
        ("yesterday,1,1", "TIMESTAMP='yesterday' is invalid: Invalid isoformat"),
        ("1700158551,1,1", "TIMESTAMP='1700158551' is invalid"),
        ("2023-11-16 18:15:51,1", "has 2 fields, and the header 3"),
        ("2023-11-16 18:15:51,1,1,1", "has 4 fields, and the header 3"),
        ('2023-11-16 18:15:51,1,"1', "not comma-separated values"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, row: str, message: str) -> None:
    lines = OF_2023.splitlines()[:3]
    with pytest.raises(UsageError, match=rf"a\.csv:5: {message}.*; "):
        build(Azure, {"path": write(tmp_path / "a.csv", "\n".join([*lines, "", row]) + "\n")}, LIMITS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"a\.csv is empty; it must begin with a header"),
        ("2023-11-16 18:15:51,1,1\n", r"a\.csv:1: the header has no column 'TIMESTAMP'; write a header with the columns"),
        ("TIMESTAMP,ContextTokens\n", r"a\.csv:1: the header has no column 'GeneratedTokens'"),
        (HEADER.strip() + ",TIMESTAMP\n", r"a\.csv:1: the column 'TIMESTAMP' appears twice"),
        (HEADER, r"a\.csv has no requests; name a trace that has some"),
    ],
)
def test_a_file_without_rows_or_header_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(Azure, {"path": write(tmp_path / "a.csv", text)}, LIMITS)


def test_bytes_that_are_no_text_are_a_bad_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(HEADER.encode() + b"\xff\n")
    with pytest.raises(UsageError, match=r"a\.csv:2: not text in UTF-8"):
        build(Azure, {"path": str(tmp_path / "a.csv")}, LIMITS)
