"""No text in a CSV file of ours is computed by a spreadsheet, and every file is written through one place."""

import csv
import io
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.csv_cells import CsvWriter, csv_of, inert, meant

HARNESS = Path(__file__).resolve().parents[2] / "harness"
COMPUTED = ["=cmd|' /C calc'!A0", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "'=1"]


@given(st.text(max_size=6) | st.text(st.sampled_from("'=+-@\t\r1"), max_size=6))
def test_an_inert_cell_means_what_it_was_made_of(text: str) -> None:
    cell = str(inert(text))
    assert meant(cell) == text
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))


def test_nothing_else_writes_csv() -> None:
    writes = re.compile(r"csv\.writer\(|DictWriter\(|\.to_csv\(")
    found = {str(file.relative_to(HARNESS)) for file in HARNESS.rglob("*.py") if writes.search(file.read_text(encoding="utf-8"))}
    assert found == {"core/csv_cells.py"}


@pytest.mark.parametrize("text", COMPUTED)
def test_texts_are_guarded_and_numbers_stay_numbers(text: str) -> None:
    out = io.StringIO(newline="")
    writer = CsvWriter(out, ["arm", "seconds", "written"], {"arm"})
    writer.header()
    writer.rows([{"arm": text, "seconds": -0.5, "written": "-0.25"}, {"arm": None}])
    rows = list(csv.reader(io.StringIO(out.getvalue(), newline="")))
    assert rows == [["arm", "seconds", "written"], [f"'{text}", "-0.5", "-0.25"], ["", "", ""]]
    frame = pd.DataFrame({"arm": [text, None], "seconds": [-0.5, None], "n": [-1, None]}).astype({"arm": "string", "n": "Int64"})
    rows = list(csv.reader(io.StringIO(csv_of(frame), newline="")))
    assert rows == [["arm", "seconds", "n"], [f"'{text}", "-0.5", "-1"], ["", "", ""]]


def test_a_key_that_is_no_column_is_a_fault() -> None:
    with pytest.raises(ValueError, match="nobody"):
        CsvWriter(io.StringIO(), ["arm"]).rows([{"nobody": 1}])
