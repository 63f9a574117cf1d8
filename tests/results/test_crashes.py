"""A results folder on a disk that is full, or a machine that stops, at any write: nothing that counts is lost or doubled."""

import contextlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from failing_disk import FailingDisk, Stopped
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from harness.core.errors import ResultsError
from harness.results import RunWriter, load
from harness.results.side_tables import append_neighbours, load_neighbours

PROMPTS, ROUNDS = 3, 4
ARM = "chunkwise:pool=8,retries=2"
CALLS = 90
"""More than a whole measurement of these makes."""

TEXTS = st.lists(st.text(st.sampled_from('a1,"\n\r=+é\u202e'), max_size=8), min_size=1, max_size=PROMPTS)
Key = tuple[int, int]


def measure(folder: Path, rows: dict[Key, str], texts: list[str]) -> None:
    """What an experiment does to its folder: rounds that run.json does not call done are measured under new numbers.
    ``rows`` gets what was handed over and came back."""
    begun = (folder / "run.json").exists()
    meta: dict[str, Any] = load(folder).meta if begun else {"data": {"prompts": PROMPTS}, "runs": []}
    done = {entry["round"] for entry in meta["runs"] if entry["done"]}
    with contextlib.closing(RunWriter(folder)) as writer:
        writer.write_meta(meta)
        for number in sorted(set(range(ROUNDS)) - done):
            run = len(meta["runs"])
            entry: dict[str, Any] = {"run": run, "round": number, "arm": ARM, "done": False}
            meta["runs"].append(entry)
            writer.write_meta(meta)
            for position in range(PROMPTS):
                prompt = texts[position % len(texts)] or "p"
                writer.append_spans([{"run": run, "request": prompt, "layer": 0, "kind": "fetch"}])
                place = {"run": run, "round": number, "position": position}
                writer.append({**place, "arm": ARM, "prompt": prompt, "ttft_s": 0.25})
                rows[run, position] = prompt
            neighbour = {"run": run, "round": number, "arm": ARM, "kind": "probe", "stream": 0, "at_s": 0.5, "value_s": 0.25}
            append_neighbours(folder, [neighbour])
            entry["done"] = True
            writer.write_meta(meta)


class Folder(RuleBasedStateMachine):
    """Measures into one folder, is cut off anywhere, and resumes, as often as hypothesis likes."""

    home: Path

    @initialize(texts=TEXTS)
    def begin(self, texts: list[str]) -> None:
        self.texts = texts
        self.path = self.home / f"run{len(list(self.home.iterdir()))}"
        self.path.mkdir()
        self.rows: dict[Key, str] = {}
        self.cuts, self.finished = 0, False

    @rule(at=st.integers(0, CALLS), stops=st.booleans(), part=st.sampled_from([0.0, 0.4, 0.99]))
    def is_measured_until_a_fault(self, at: int, stops: bool, part: float) -> None:
        try:
            with FailingDisk(self.path, at, stops, part).mounted():
                measure(self.path, self.rows, self.texts)
            self.finished = True
        except (Stopped, ResultsError) as error:
            assert isinstance(error, Stopped) or "No space left" in str(error)
            self.cuts += 1

    @rule()
    def is_measured_to_its_end(self) -> None:
        measure(self.path, self.rows, self.texts)
        self.finished = True

    @invariant()
    def what_was_handed_over_is_there_once(self) -> None:
        if not (self.path / "run.json").exists():
            return
        found = load(self.path)  # raises if a run that is called done lacks rows, or a row is doubled
        columns = [found.requests[name] for name in ("run", "position", "prompt")]
        read = {(int(run), int(position)): str(prompt) for run, position, prompt in zip(*columns, strict=True)}
        assert self.rows.items() <= read.items()
        assert len(read) - len(self.rows) <= self.cuts, "a row may be whole though its append did not come back"
        done = found.runs.loc[found.runs["done"], "run"].tolist()
        heard = load_neighbours(self.path)["run"].tolist()
        assert [run for run in heard if run in done] == done, "each row of a side table is there once as well"
        assert not self.finished or found.runs.loc[found.runs["done"], "round"].tolist() == list(range(ROUNDS))


def test_a_folder_survives_any_faults(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("folders")
    machine = type("Here", (Folder,), {"home": home})
    run_state_machine_as_test(machine, settings=settings(deadline=None, max_examples=18, stateful_step_count=5))


@pytest.mark.parametrize("stops", [False, True])
def test_a_folder_survives_a_fault_at_every_call(tmp_path: Path, stops: bool) -> None:
    whole = FailingDisk(tmp_path / "whole", at=10**9, stops=False)
    whole.folder.mkdir()
    with whole.mounted():
        measure(whole.folder, {}, ["p", 'say "no",\nthen'])
    assert 40 < whole.calls < CALLS
    expected = load(whole.folder).counted["prompt"].tolist()
    for at in range(whole.calls):
        folder = tmp_path / str(at)
        folder.mkdir()
        rows: dict[Key, str] = {}
        with pytest.raises((Stopped, ResultsError)), FailingDisk(folder, at, stops, 0.5).mounted():
            measure(folder, rows, ["p", 'say "no",\nthen'])
        measure(folder, rows, ["p", 'say "no",\nthen'])
        found = load(folder)
        assert found.counted["prompt"].tolist() == expected
        assert pd.MultiIndex.from_frame(found.requests[["run", "position"]]).isin(rows.keys()).sum() == len(rows)
