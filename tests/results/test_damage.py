"""A requests.csv that was damaged after it was written: an error that names the line, or every row is still there."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.core.errors import ResultsError
from harness.results import RunWriter, complete_rows, load
from harness.results.csv_rows import whole_rows
from harness.results.side_tables import append_neighbours, load_neighbours
from harness.testing.runs import write_synthetic_run

ARMS = ("chunkwise:pool=8,retries=2", "layerwise:depth=4")
REFERENCE = Path(__file__).parents[2] / "results" / "reference" / "default"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    failed = {(1, 2): 'HTTP 500: {"error": "no, not now"}\nand more\n'}
    return write_synthetic_run(tmp_path_factory.mktemp("run"), ARMS, rounds=2, prompts=3, spans=False, failed=failed)


def copy_of(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


@settings(deadline=None, max_examples=150)
@given(st.floats(0, 1), st.sampled_from([b'"', b",", b"\n", b"0", b"", b'"\n', b'""']), st.booleans())
@example(0.99999, b'"', True)
def test_no_damage_loses_a_row_silently(
    tmp_path_factory: pytest.TempPathFactory, run: Path, place: float, put: bytes, replace: bool
) -> None:
    folder = copy_of(run, tmp_path_factory.mktemp("damaged") / "run")
    file, whole = folder / "requests.csv", load(run).requests
    data = file.read_bytes()
    at = int(place * (len(data) - 1))
    damaged = data[:at] + put + data[at + replace :]
    file.write_bytes(damaged)
    try:
        found = load(folder).requests
    except ResultsError as error:
        assert "requests.csv" in str(error) and len(str(error)) < 1000
    else:
        assert len(found) == len(whole)
        changed = (found.astype(object).fillna("") != whole.astype(object).fillna("")).to_numpy().sum()
        assert changed <= 1, "one cell may read differently; nothing can tell that it does"
    try:
        RunWriter(folder).close()
    except ResultsError:
        assert file.read_bytes() == damaged
    else:
        kept, backup = file.read_bytes(), b"".join(cut.read_bytes() for cut in folder.glob("requests.csv.*.cut"))
        assert kept + backup == damaged or (not kept.partition(b"\n")[2] and not damaged)
        assert len(load_rows(kept)) >= len(whole) - 1


def load_rows(data: bytes) -> list[bytes]:
    """The rows in a file that is whole, but for its header. Only one text of ours has line ends in it: two of them."""
    return data.splitlines()[1 + 2 * (b"and more" in data) :]


def test_a_stray_quote_in_a_real_measurement_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    folder = copy_of(REFERENCE, tmp_path / "run")
    file = folder / "requests.csv"
    data = file.read_bytes()
    for at in range(len(data) // 50, len(data), len(data) // 40):
        file.write_bytes(data[:at] + b'"' + data[at + 1 :])
        with pytest.raises(ResultsError, match=r"requests.csv, line \d+ is damaged: .*restore the file") as told:
            load(folder)
        near = data.count(b"\n", 0, at) + 1
        assert f"line {near} " in str(told.value) or f"line {near - 1} " in str(told.value)
        with pytest.raises(ResultsError, match=r"line \d+ is damaged"):
            RunWriter(folder)
        assert len(file.read_bytes()) == len(data)


def without_line(number: int) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: lines[: number - 1] + lines[number:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_line(3), r"damaged near line 3: it has 2 rows of run 0, which run\.json calls done with 3 prompts; restore"),
        (lambda lines: lines[:-3], r"damaged near line 10: it has 0 rows of run 3, which run\.json calls done"),
        (lambda lines: [*lines[:-1], lines[-1][:40]], r"it has 2 rows of run 3, which run\.json calls done"),
        (lambda lines: lines[:1], r"damaged near line 1: it has 0 rows of run 0"),
        (lambda lines: [], r"damaged near line 1: it has 0 rows of run 0"),
        (lambda lines: [*lines, lines[4]], r"line 14 holds request 0 of run 1 a second time; delete one of the two lines"),
        (lambda lines: lines * 2, r"has a cell that is not what its column holds"),
        (lambda lines: [lines[0].replace(b"ttft_s,server", b"ttft_s,sewer"), *lines[1:]], r"line 1 is damaged: 'sewer_"),
        (lambda lines: [*lines[:4], lines[4].replace(b"layer", b"lager"), *lines[5:]], r"line 5 is damaged: its arm is lager"),
        (lambda lines: [*lines[:7], lines[7].replace(b"2,1,", b"2,0,", 1), *lines[8:]], r"line 8 is damaged: its round is 0"),
        (lambda lines: [*lines[:7], lines[7].replace(b"2,1,", b"2,,", 1), *lines[8:]], r"line 8 is damaged: its round is empty"),
        (lambda lines: [*lines[:7], lines[7].replace(b"2,1,0,", b"2,1,,", 1), *lines[8:]], r"its position is empty"),
        (lambda lines: [*lines, lines[7].replace(b"2,1,", b",1,", 1)], r"line 14 is damaged: its run is empty"),
        (lambda lines: [*lines[:4], re.sub(rb"layer[^,]*", b"", lines[4]), *lines[5:]], r"line 5 is damaged: its arm is empty"),
    ],
)  # fmt: skip
def test_rows_that_run_json_does_not_speak_of_are_an_error(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], message: str
) -> None:
    folder = write_synthetic_run(tmp_path, ARMS, rounds=2, prompts=3, spans=False)
    file = folder / "requests.csv"
    file.write_bytes(b"".join(change(file.read_bytes().splitlines(keepends=True))))
    with pytest.raises(ResultsError, match=message):
        load(folder)


def test_what_is_cut_off_is_kept_beside_the_file(tmp_path: Path) -> None:
    folder = write_synthetic_run(tmp_path, ARMS, rounds=1, prompts=2, stop_after=3)
    sizes = {}
    for name in ("requests.csv", "spans.jsonl"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:-5])
        sizes[name] = data[:-5]
    RunWriter(folder).close()
    RunWriter(folder).close()  # nothing is left to cut
    for name, before in sizes.items():
        (cut,) = folder.glob(f"{name}.*.cut")
        kept = (folder / name).read_bytes()
        assert kept + cut.read_bytes() == before and cut.name == f"{name}.{len(kept)}.cut"
        assert kept.endswith(b"\n") and b"\n" not in cut.read_bytes()


def test_nothing_is_cut_if_another_table_is_damaged(tmp_path: Path) -> None:
    folder = write_synthetic_run(tmp_path, ARMS, rounds=1, prompts=2)
    row = {"run": 0, "round": 0, "arm": ARMS[0], "kind": "probe", "stream": 0, "at_s": 0.5, "value_s": 0.1}
    append_neighbours(folder, [row, row, row])
    neighbours, requests = folder / "neighbours.csv", folder / "requests.csv"
    neighbours.write_bytes(neighbours.read_bytes().replace(b"probe", b'pro"e', 1))
    requests.write_bytes(requests.read_bytes()[:-3])
    before = requests.read_bytes()
    with pytest.raises(ResultsError, match=r"neighbours.csv, line 2 is damaged"):
        RunWriter(folder)
    assert requests.read_bytes() == before
    with pytest.raises(ResultsError, match=r"neighbours.csv, line 2 is damaged"):
        load_neighbours(folder)


def test_a_cut_off_row_of_a_side_table_is_skipped_and_cut_at_the_next_start(tmp_path: Path) -> None:
    folder = write_synthetic_run(tmp_path, ARMS, rounds=1, prompts=2)
    row = {"run": 0, "round": 0, "arm": ARMS[0], "kind": "probe", "stream": 0, "at_s": 0.5, "value_s": 0.1}
    append_neighbours(folder, [row, row])
    file = folder / "neighbours.csv"
    file.write_bytes(file.read_bytes()[:-4])
    assert len(load_neighbours(folder)) == 1
    RunWriter(folder).close()
    append_neighbours(folder, [row])
    assert load_neighbours(folder)["value_s"].tolist() == [0.1, 0.1]


@pytest.mark.parametrize("rows", [b"0,1,2,x\r\n" * 50_000 + b'1,"' + b"a\n" * 50_000, b'0,1,2,"x""y"\n' * 100_000])
def test_long_files_take_linear_time(rows: bytes) -> None:
    data = b"run,round,position,arm\r\n" + rows
    steps: list[int] = []

    class Counting(bytes):
        def rfind(self, *args: Any) -> int:
            steps.append(1)
            return data.rfind(*args)

        def count(self, *args: Any) -> int:
            steps.append(min([*args[2:], len(data)]) - sum(args[1:2]))
            return data.count(*args)

    assert complete_rows(Counting(data)) == whole_rows(Path("requests.csv"), data)
    assert sum(steps) < 4 * len(data)
