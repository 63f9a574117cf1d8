"""``ttft gate --history`` and ``ttft trend``: verdicts are added up, and shown over time."""

import sys
from pathlib import Path

import pytest

import cli
from harness.gate.history import append, read
from harness.testing.runs import write_synthetic_run

ARMS = ("chunkwise:pool=0", "layerwise:depth=4")


class Command:
    """Runs ``ttft`` in a folder of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        self._monkeypatch.setattr(sys, "argv", ["ttft", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = self._capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return int(ended.value.code or 0), captured.out, captured.err

    def gate(self, run: Path, *words: str) -> tuple[int, str, str]:
        return self("gate", str(run), "--base", ARMS[0], "--candidate", ARMS[1], "--max", "p50:50%", *words)


@pytest.fixture
def ttft(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_SHA", "CI_COMMIT_SHA", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    return Command(capsys, monkeypatch)


def night(folder: Path, day: int, ratio: float) -> Path:
    """A night's run: the candidate takes ``ratio`` of the base's time."""
    mean = {ARMS[0]: 0.4, ARMS[1]: 0.4 * ratio}
    meta = {"started": f"2026-02-{day:02d}T03:00:00Z", "id": f"night-{day}"}
    return write_synthetic_run(folder, ARMS, 6, 4, mean_s=mean, seed=day, meta=meta, spans=False)


def test_each_verdict_adds_its_rows_whatever_it_is(ttft: Command, tmp_path: Path) -> None:
    for day, ratio in ((1, 1.0), (2, 2.5)):
        ttft.gate(night(tmp_path / f"r{day}", day, ratio), "--history", "h.csv", "--label", f"c{day}", "--max", "mean:50%")
    void = write_synthetic_run(tmp_path / "void", ARMS, 6, 4, void={1: "hits differ"}, spans=False)
    assert ttft.gate(void, "--history", "h.csv")[0] == 2
    found = read(tmp_path / "h.csv")
    assert found["metric"].tolist() == ["p50", "mean", "p50", "mean", "p50"]
    assert found["outcome"].tolist() == ["PASS", "PASS", "FAIL", "FAIL", "REFUSED"]
    assert found["commit"].tolist() == ["c1", "c1", "c2", "c2", ""]
    assert found["ratio"].isna().tolist() == [False] * 4 + [True]


def test_two_stored_runs_are_added_by_the_candidates_time(ttft: Command, tmp_path: Path) -> None:
    old, new = (night(tmp_path / f"r{day}", day, 1.0) for day in (1, 2))
    words = ["gate", str(old), str(new), "--candidate", ARMS[1], "--base", ARMS[1], "--max", "p50:50%", "--history", "h.csv"]
    assert ttft(*words)[0] in (0, 2, 3)
    assert read(tmp_path / "h.csv")["time"].tolist() == ["2026-02-02T03:00:00+00:00"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_lasting_change_is_told_with_its_commit(kind: str, ttft: Command, tmp_path: Path) -> None:
    assert ttft.gate(night(tmp_path / "r1", 1, 0.7), "--history", f"h.{kind}", "--label", "commit1")[0] == 0
    (row,) = read(tmp_path / f"h.{kind}").to_dict("records")
    first = {str(name): value for name, value in row.items()}
    for day in range(2, 15):
        ratio = (0.7 if day < 8 else 0.9) + 0.001 * (day % 3)
        time = f"2026-02-{day:02d}T03:00:00+00:00"
        append(
            tmp_path / f"h.{kind}", [{**first, "time": time, "commit": f"commit{day}", "ratio": ratio, "low": None, "high": None}]
        )
    code, out, err = ttft("trend", f"h.{kind}", "--metric", "p50")
    assert (code, err) == (0, "")
    assert "Change points" in out and "commit8" in out and "2026-02-08" in out
    assert (tmp_path / "trend.png").stat().st_size > 5000
    assert ttft("trend", f"h.{kind}", "--out", "pictures/t.svg")[0] == 0
    assert (tmp_path / "pictures" / "t.svg").exists()


def test_a_short_history_says_that_it_is_too_short(ttft: Command, tmp_path: Path) -> None:
    ttft.gate(night(tmp_path / "r1", 1, 0.9), "--history", "h.csv")
    code, out, _ = ttft("trend", "h.csv")
    assert code == 0
    assert "No change points" in out and "Too few verdicts to look for change points in 1 of 1 series; 10 are needed" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.csv"], "nowhere.csv cannot be read: No such file"),
        (["h.xlsx"], "unknown kind of history file '.xlsx'"),
        (["h.csv", "--metric", "p59"], "unknown metric in the history 'p59' (did you mean 'p50'?)"),
        (["h.csv", "--arm", "nobody"], "unknown arm in the history 'nobody'"),
        (["h.csv", "--out", "t.bmp"], "unknown kind of picture '.bmp'"),
        (["h.csv", "--out", "h.csv/t.png"], "cannot be written"),
        (["damaged.csv"], "damaged.csv has no column 'schema'"),
    ],
)
def test_bad_input_to_trend_is_one_sentence(words: list[str], message: str, ttft: Command, tmp_path: Path) -> None:
    ttft.gate(night(tmp_path / "r1", 1, 0.9), "--history", "h.csv")
    (tmp_path / "damaged.csv").write_text("a,b\n1,2\n")
    code, _, err = ttft("trend", *words)
    assert code == 2
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err


def test_a_history_that_cannot_be_added_to_is_said_before_judging(ttft: Command, tmp_path: Path) -> None:
    (tmp_path / "damaged.csv").write_text("a,b\n1,2\n")
    for history, message in (("damaged.csv", "has no column 'schema'"), ("h.json", "unknown kind of history file '.json'")):
        code, out, err = ttft.gate(tmp_path / "no-such-run", "--history", history)
        assert code == 2 and message in err and out == ""
    assert (tmp_path / "damaged.csv").read_text() == "a,b\n1,2\n"
