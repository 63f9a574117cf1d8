"""A history on a disk that is full, or a machine that stops, at any call: no verdict is lost, doubled or cut in two."""

from pathlib import Path

import pandas as pd
import pytest
from failing_disk import FailingDisk, Stopped
from histories import rows

from harness.core.errors import ResultsError
from harness.gate import history

FIRST, SECOND, THIRD = rows([1.0], start=0), rows([0.9], start=1), rows([1.1], "p95", start=2)


def commits(path: Path) -> list[str]:
    return [str(commit) for commit in history.read(path)["commit"]]


@pytest.mark.parametrize("stops", [False, True])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.97])
def test_a_history_survives_a_fault_at_every_call(tmp_path: Path, stops: bool, part: float) -> None:
    for at in range(6):  # more calls than an append makes
        folder = tmp_path / str(at)
        folder.mkdir()
        path = folder / "history.csv"
        history.append(path, FIRST)
        disk = FailingDisk(folder, at, stops, part)
        try:
            with disk.mounted():
                history.append(path, SECOND)
            told = True
        except (Stopped, ResultsError):
            told = False
        assert commits(path) in (["c0", "c1"], *([] if told else [["c0"]]))
        before = commits(path)
        history.append(path, THIRD)
        assert commits(path) == [*before, "c2"]
    assert told, "the last one of these faults comes after everything is written"


@pytest.mark.parametrize("length", range(0, 260, 13))
def test_a_row_that_was_cut_off_is_left_out_and_the_next_one_is_whole(tmp_path: Path, length: int) -> None:
    path = tmp_path / "history.csv"
    history.append(path, FIRST)
    whole = path.read_bytes()
    path.write_bytes(whole[: max(len(whole) - 1 - length, 0)])
    left = commits(path)
    assert left == (["c0"] if length == 0 else [])  # without its line end a row is whole
    history.append(path, SECOND)
    assert commits(path) == [*left, "c1"]


def test_texts_come_back_and_no_spreadsheet_computes_them(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    wanted = [row | {"commit": "=cmd()", "arm": "-1+1", "base": "@x"} for row in FIRST]
    history.append(path, wanted)
    assert b"'=cmd()" in path.read_bytes() and b",-1+1," not in path.read_bytes()
    found = history.read(path)
    pd.testing.assert_series_equal(found.iloc[0], pd.Series(wanted[0]), check_dtype=False, check_names=False)
