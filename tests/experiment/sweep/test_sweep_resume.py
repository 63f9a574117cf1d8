"""A sweep that was cut off, killed, finished or damaged: what ``--resume`` and ``--report`` make of it."""

import json

import pytest
from fake_engine import Lab, Served, lab
from sweeping import Sweep, sweep

from harness.results import load

__all__ = ["lab", "sweep"]


def test_an_interrupted_sweep_goes_on_where_it_was(lab: Lab, sweep: Sweep) -> None:
    def interrupt(served: Served) -> None:
        if served.label == "3/1" and len(served.prompt) == 69:
            raise KeyboardInterrupt

    lab.vllm.tamper = interrupt
    code, out, _ = sweep.measure("--vary", "workload.prefix=32,64,48")
    assert code == 130
    assert f"Resume it: ttft sweep --resume {sweep.folder}" in out
    assert "PARTIAL, 2 OF 3 POINTS ARE NOT MEASURED" in out
    assert sweep.statuses() == ["complete", "measuring", "waiting"]
    first = (sweep.run_folder(1) / "requests.csv").read_bytes()
    lab.vllm.tamper = lambda served: None
    before = len(lab.vllm.timed)
    code, out, err = sweep("--resume", str(sweep.folder), "--dry-run")
    assert (code, err) == (0, "") and "points    3, 2 of them left" in out
    assert "resting on the 1 point of this sweep that is measured" in out
    code, _, err = sweep("--resume", str(sweep.folder))
    assert (code, err) == (0, "")
    assert sweep.statuses() == ["complete"] * 3
    assert (sweep.run_folder(1) / "requests.csv").read_bytes() == first, "a finished point is left alone"
    assert len(load(sweep.run_folder(2)).counted) == 44
    assert len(lab.vllm.timed) - before == 2 * 44
    assert lab.left() == set()


def test_a_sweep_killed_without_a_word_goes_on_from_its_files(lab: Lab, sweep: Sweep) -> None:
    """SIGKILL between two rows: sweep.json says that the point is being measured, run.json that its run is not done."""
    sweep.measure("--vary", "workload.prefix=32,64")
    state = json.loads((sweep.folder / "sweep.json").read_text())
    state["points"][1] |= {"status": "measuring", "wall_s": None}
    (sweep.folder / "sweep.json").write_text(json.dumps(state))
    folder = sweep.run_folder(2)
    meta = json.loads((folder / "run.json").read_text())
    meta["runs"] = meta["runs"][:2]
    meta["runs"][1]["done"], meta["status"] = False, "partial"
    (folder / "run.json").write_text(json.dumps(meta))
    lines = (folder / "requests.csv").read_text().splitlines(keepends=True)
    (folder / "requests.csv").write_text("".join(lines[:7])[:-20])
    code, _, err = sweep("--resume", str(sweep.folder))
    assert (code, err) == (0, "")
    assert len(load(folder).counted) == 44


def test_nothing_is_left_of_a_finished_sweep_but_its_report_can_be_made_anew(lab: Lab, sweep: Sweep) -> None:
    sweep.measure("--vary", "concurrency=1,2")
    started = len(lab.vllm.engines)
    code, _, err = sweep("--resume", str(sweep.folder))
    assert code == 2 and "has all of its points, so nothing is left to measure" in err
    written = (sweep.folder / "sweep.csv").read_bytes()
    (sweep.folder / "sweep.csv").unlink()
    code, out, err = sweep("--report", str(sweep.folder))
    assert (code, err) == (0, "") and "Wrote" in out
    assert (sweep.folder / "sweep.csv").read_bytes() == written
    assert len(lab.vllm.engines) == started


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--pairs", "4"], "remove pairs"),
        (["--vary", "concurrency=1,2"], "remove vary"),
        (["--out", "elsewhere"], "remove out"),
        (["--store", "file:///elsewhere"], "cannot be resumed: its store is"),
    ],
)
def test_a_resumed_sweep_takes_nothing_else(sweep: Sweep, words: list[str], said: str) -> None:
    sweep.measure("--vary", "concurrency=1,2")
    code, _, err = sweep("--resume", str(sweep.folder), *words)
    assert code == 2 and said in err and err.count("\n") == 1


def test_another_grid_on_an_old_folder_is_refused(lab: Lab, sweep: Sweep) -> None:
    sweep.measure("--vary", "concurrency=1,2")
    started = len(lab.vllm.engines)
    code, _, err = sweep.measure("--vary", "concurrency=1,4")
    assert code == 2 and "already holds results; give another --out, or resume a sweep: --resume" in err
    assert len(lab.vllm.engines) == started


def test_another_machine_is_refused_when_resuming(sweep: Sweep, lab: Lab) -> None:
    lab.vllm.tamper = lambda served: setattr(served, "cached_tokens", None) if served.label == "9/9" else None
    sweep.measure("--vary", "concurrency=1,2")
    state = json.loads((sweep.folder / "sweep.json").read_text())
    state["points"][1]["status"] = "failed"
    (sweep.folder / "sweep.json").write_text(json.dumps(state))
    meta = json.loads((sweep.run_folder(1) / "run.json").read_text())
    meta["machine"]["cpu"] = "another"
    (sweep.run_folder(1) / "run.json").write_text(json.dumps(meta))
    code, _, err = sweep("--resume", str(sweep.folder))
    assert code == 2 and "cannot be resumed: its machine is" in err


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": "1.0"}', '{"schema": "2.0"}'])
def test_a_damaged_sweep_is_one_sentence(sweep: Sweep, text: str) -> None:
    sweep.folder.mkdir()
    (sweep.folder / "sweep.json").write_text(text)
    code, _, err = sweep("--resume", str(sweep.folder))
    assert code == 2 and str(sweep.folder) in err and err.count("\n") == 1
