"""The file of a history: it comes back as it was, survives writers at once, and is refused where it is damaged."""

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import ResultsError, SchemaMismatch, SetupError, TtftError, UsageError
from harness.core.text import printable
from harness.gate.history import COLUMNS, append, check, file, read

ROW: dict[str, object] = {
    "schema": "1.0",
    "time": "2026-01-02T03:04:05+00:00",
    "run": "ci",
    "commit": "abc",
    "arm": "layerwise:depth=4",
    "base": "chunkwise:pool=0",
    "metric": "p50",
    "ratio": 0.9,
    "low": 0.85,
    "high": 0.95,
    "margin": 0.05,
    "outcome": "PASS",
    "n_pairs": 8,
    "machine": "0123456789ab",
}

texts = st.text(max_size=12).map(printable)
rows = st.builds(
    lambda ratio, width, known, **more: {
        **ROW,
        **more,
        "ratio": ratio,
        "low": ratio * width if known else None,
        "high": ratio / width if known else None,
    },
    ratio=st.floats(1e-6, 1e6),
    width=st.floats(0.1, 1),
    known=st.booleans(),
    run=texts,
    commit=texts,
    arm=texts.filter(bool),
    base=texts.filter(bool),
    metric=st.sampled_from(["mean", "p50", "p99.9"]),
    margin=st.floats(1e-6, 1),
    outcome=st.sampled_from(["PASS", "FAIL", "INCONCLUSIVE", "REFUSED"]),
    n_pairs=st.integers(0, 10**6),
)


def cells(frame: pd.DataFrame) -> list[dict[str, object]]:
    """Rows with None where nothing is known."""
    return [{str(name): None if pd.isna(value) else value for name, value in row.items()} for row in frame.to_dict("records")]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@given(st.lists(st.lists(rows, min_size=1, max_size=3), min_size=1, max_size=3))
@settings(deadline=None, max_examples=25)
def test_what_is_appended_comes_back(kind: str, verdicts: list[list[dict[str, Any]]]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"h.{kind}"
        for verdict in verdicts:
            append(path, verdict)
        assert cells(read(path)) == [row for verdict in verdicts for row in verdict]


def _append_many(path: Path, run: str) -> None:
    for _ in range(5):
        append(path, [{**ROW, "run": run}, {**ROW, "run": run, "metric": "p95"}])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_writers_at_once_lose_nothing(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"h.{kind}"
    with ThreadPoolExecutor(3) as pool:  # each takes the file lock by a descriptor of its own, as processes do
        for done in [pool.submit(_append_many, path, str(number)) for number in range(3)]:
            done.result()
    found = read(path)
    assert found["run"].value_counts().to_dict() == {"0": 10, "1": 10, "2": 10}
    assert (found["run"][::2].to_numpy() == found["run"][1::2].to_numpy()).all(), "a verdict's rows stay together"


def test_a_history_held_by_another_job_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "PATIENCE_S", 0.05)
    with (
        FileLock(f"{tmp_path / 'h.csv'}.lock"),
        pytest.raises(ResultsError, match=r"another job has been writing .* delete .*\.lock"),
    ):
        append(tmp_path / "h.csv", [ROW])


def damaged(change: dict[str, str]) -> str:
    """The text of a history whose second row differs."""
    lines = [",".join(COLUMNS)] + [",".join(str(value) for value in row.values()) for row in (ROW, {**ROW, **change})]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ratio", "nan"),
        ("ratio", "-0.9"),
        ("ratio", "0"),
        ("ratio", "inf"),
        ("ratio", "fast"),
        ("ratio", ""),
        ("low", "0.95"),
        ("low", "NaN"),
        ("high", "0.5"),
        ("margin", ""),
        ("margin", "0"),
        ("outcome", "MAYBE"),
        ("outcome", ""),
        ("n_pairs", "8.5"),
        ("n_pairs", "-1"),
        ("n_pairs", ""),
        ("time", "yesterday"),
        ("time", ""),
        ("metric", "q50"),
        ("arm", ""),
        ("base", ""),
        ("machine", "0123"),
    ],
)
def test_a_cell_that_cannot_be_is_named(name: str, value: str, tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    path.write_text(damaged({name: value}))
    message = re.escape(f"h.csv is damaged: row 2 has '{value}' as its {name}; fix or delete it")
    for use in (read, check, lambda path: append(path, [ROW])):
        with pytest.raises(ResultsError, match=message):
            use(path)
    assert path.read_text() == damaged({name: value}), "a damaged file is left as it is"


WHOLE = damaged({})


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (WHOLE[:-20] + "\n", ResultsError, "row 2 has 12 cells, the header 14"),
        (WHOLE[:-4] + "\n", ResultsError, "as its machine"),
        (WHOLE + '1.0,"2026\n', ResultsError, "unexpected end of data"),
        (WHOLE.replace("ratio,", "", 1), ResultsError, "row 1 has 14 cells, the header 13"),
        ("run,arm\nx,y\n", ResultsError, "has no column 'schema', so it is none of ours"),
        (WHOLE.replace("1.0,2026", "2.0,2026"), SchemaMismatch, r"rows of schema '2\.0', this is 1\.0"),
        (WHOLE.replace("1.0,2026", ",2026"), SchemaMismatch, "rows of schema ''"),
        ("\0\0\0", ResultsError, "h.csv"),
    ],
)
def test_a_damaged_file_is_one_sentence(text: str, error: type[TtftError], message: str, tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    path.write_text(text)
    with pytest.raises(error, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_and_no_parquet(tmp_path: Path) -> None:
    for name in ("h.csv", "h.parquet"):
        (tmp_path / name).write_bytes(b"PAR1\xff\xfe damaged")
        with pytest.raises(ResultsError, match=name):
            read(tmp_path / name)
    append(tmp_path / "good.parquet", [ROW])
    whole = (tmp_path / "good.parquet").read_bytes()
    (tmp_path / "good.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ResultsError, match=r"good\.parquet"):
        append(tmp_path / "good.parquet", [ROW])


def test_a_missing_file_another_kind_and_a_place_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"h\.csv cannot be read: No such file"):
        read(tmp_path / "h.csv")
    check(tmp_path / "h.csv")  # is made by the first verdict
    for name in ("h.xlsx", "h"):
        with pytest.raises(UsageError, match=r"unknown kind of history file .*known: \.csv, \.parquet"):
            check(tmp_path / name)
    (tmp_path / "taken").write_text("")
    with pytest.raises(ResultsError, match="cannot be written"):
        append(tmp_path / "taken" / "h.csv", [ROW])


def test_what_editors_and_spreadsheets_do_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    path.write_bytes(b"\xef\xbb\xbf" + WHOLE.rstrip("\n").replace("\n", "\r\n").encode())
    append(path, [ROW])
    assert cells(read(path)) == [ROW] * 3


def test_a_column_of_a_newer_minor_version_is_read_but_not_written_past(tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    path.write_text("\n".join(f"{line},x" for line in WHOLE.splitlines()) + "\n")
    assert cells(read(path)) == [ROW] * 2
    with pytest.raises(ResultsError, match="has other columns than this version writes"):
        append(path, [ROW])


def test_parquet_without_pyarrow_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SetupError, match=r"pip install 'ttft\[parquet\]'"):
        check(tmp_path / "h.parquet")
