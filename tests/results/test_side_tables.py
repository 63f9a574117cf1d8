from pathlib import Path

import pytest

from harness.core.errors import ResultsError
from harness.results.side_tables import NEIGHBOUR_COLUMNS, NEIGHBOURS, append_neighbours, load_neighbours

ROW = {"run": 0, "round": 0, "arm": "layerwise:depth=4", "kind": "decode", "stream": 1, "at_s": 0.5, "value_s": 0.02}


def test_rows_come_back_in_order_with_their_types(tmp_path: Path) -> None:
    append_neighbours(tmp_path, [ROW, ROW | {"at_s": 0.7}])
    append_neighbours(tmp_path, [ROW | {"run": 1, "kind": "probe"}])
    found = load_neighbours(tmp_path)
    assert found["at_s"].tolist() == [0.5, 0.7, 0.5]
    assert {name: str(kind) for name, kind in found.dtypes.items()} == dict(NEIGHBOUR_COLUMNS)


def test_a_run_without_neighbours_has_none(tmp_path: Path) -> None:
    found = load_neighbours(tmp_path)
    assert len(found) == 0 and list(found.columns) == list(NEIGHBOUR_COLUMNS)


@pytest.mark.parametrize("text", ["run,pair\n0,0\n", "not,ours\n1,2\n", ",".join(NEIGHBOUR_COLUMNS) + "\n0,0,a,decode,0,x,y\n"])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / NEIGHBOURS.name).write_text(text)
    with pytest.raises(ResultsError, match=f"{NEIGHBOURS.name} cannot be read"):
        load_neighbours(tmp_path)


def test_where_it_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="cannot be written"):
        append_neighbours(tmp_path / "nowhere", [ROW])
