"""``ttft store``: what check and bench print and write, and one sentence for every mistake."""

import csv
import json
import sys
from pathlib import Path

import pytest

import cli
from harness.core.errors import StoreUnavailable
from harness.stores import open_store
from harness.stores.files.disk import DiskStore

GOLDEN = Path(__file__).parents[1] / "goldens" / "store_check.txt"
SMALL = ["--quick", "--sizes", "1000,5000", "--threads", "2", "--loops", "1x2", "--batches", "2", "--rounds", "2", "--no-limit"]


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``ttft store`` with these words."""
    monkeypatch.setattr("harness.commands.store.end_as_by_ctrl_c", lambda: None)
    monkeypatch.setattr("harness.commands.store_bench.end_as_by_ctrl_c", lambda: None)
    monkeypatch.setattr(sys, "argv", ["ttft", "store", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    captured = capsys.readouterr()
    code = ended.value.code
    return (code if isinstance(code, int) else 0), captured.out, captured.err


def test_what_check_prints(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda size: "0" * 2 * size)
    code, out, err = run(capsys, monkeypatch, "check", f"file://{tmp_path}/kv")
    assert (code, err) == (0, "")
    assert out.replace(str(tmp_path), "") == GOLDEN.read_text()


def test_a_broken_store_is_told_and_the_exit_code_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(DiskStore, "size", lambda self, key: 7)
    code, out, err = run(capsys, monkeypatch, "check", f"file://{tmp_path}/kv")
    assert code == 2
    assert "NO  a size is the length of the object: the size of an object of 4,097 bytes is 7\n" in out
    assert "25 checks: 24 ok, 1 NO\n" in out
    assert err.startswith("error: file://") and err.endswith("1 checks say: a size is the length of the object\n")
    with open_store(f"file://{tmp_path}/kv") as store:
        assert list(store.keys()) == []


def test_ctrl_c_during_check_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(self: DiskStore, key: str) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(DiskStore, "size", interrupted)
    code, out, err = run(capsys, monkeypatch, "check", f"file://{tmp_path}/kv")
    assert (code, err) == (130, "")
    assert out.endswith("Interrupted; what was written is deleted.\n")
    with open_store(f"file://{tmp_path}/kv") as store:
        assert list(store.keys()) == []


def test_bench_prints_tables_and_writes_files(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, told, err = run(capsys, monkeypatch, "bench", f"file://{tmp_path}/kv", *SMALL, "--out", str(out))
    assert (code, err) == (0, "")
    for text in ("One object per call", "A batch: times as fast", "for shaped+: latency_ms="):
        assert text in told
    assert "with fewer than 6 rounds" in told
    assert {file.name for file in out.iterdir()} == {"bench.csv", "bench.json", "bench.png", "bench.svg"}
    meta = json.loads((out / "bench.json").read_text())
    assert (meta["rounds"], meta["settings"]["sizes"], meta["limit"]) == (2, [1000, 5000], "")
    with (out / "bench.csv").open(newline="") as file:
        assert {row["action"] for row in csv.DictReader(file)} == {"read", "aread", "write", "exists"}
    with open_store(f"file://{tmp_path}/kv") as store:
        assert list(store.keys()) == []


def test_ctrl_c_during_bench_keeps_what_was_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from harness.stores._bench import LongTable

    real = LongTable.append

    def append(self: LongTable, rows: list[dict[str, object]]) -> None:
        real(self, rows)  # type: ignore[arg-type]
        if len(self.rounds) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(LongTable, "append", append)
    words = [*SMALL[:-3], "--rounds", "9", "--no-limit", "--out", str(tmp_path / "out")]
    code, told, err = run(capsys, monkeypatch, "bench", f"file://{tmp_path}/kv", *words)
    assert (code, err) == (130, "")
    assert "2 of 9 rounds were measured" in told
    assert told.endswith("Interrupted; what was written is deleted.\n")
    assert (tmp_path / "out" / "bench.png").exists()


def test_no_secret_is_shown_or_kept(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Secretive(DiskStore):
        """Stands for a store whose URL holds a password."""

    def opened(url: str) -> DiskStore:
        from urllib.parse import urlsplit

        parts = urlsplit(url)
        store = Secretive(parts._replace(netloc=""), Secretive.Options())
        store.url = url.replace("hunter2", "***")
        return store

    monkeypatch.setattr("harness.stores.base.open_store", opened)
    url = f"file://ann:hunter2@{tmp_path}/kv"
    code, told, err = run(capsys, monkeypatch, "bench", url, *SMALL, "--out", str(tmp_path / "out"))
    assert (code, err) == (0, "")
    kept = "".join(file.read_text() for file in (tmp_path / "out").iterdir() if file.suffix != ".png")
    assert "ann:***@" in told and "ann:***@" in kept
    assert "hunter2" not in told + err + kept


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check", "/tmp/kv"], "'/tmp/kv' is not a store URL"),
        (["check", "fiel:///tmp/kv"], "unknown store 'fiel' (did you mean 'file'?)"),
        (["check", "file:///dev/null/kv"], "/dev/null/kv"),
        (["check", "redis://ann:hunter2@127.0.0.1:1/0"], "the redis server at 127.0.0.1:1 is not there"),
        (["bench", "redis://ann:hunter2@127.0.0.1:1/0", *SMALL], "the redis server at 127.0.0.1:1 is not there"),
        (["bench", "file:///tmp/kv?dirct=1", *SMALL], "unknown option of store 'file' 'dirct'"),
        (["bench", "file:///tmp/kv", "--sizes", "4MB"], "--sizes '4MB': '4MB' is invalid"),
        (["bench", "file:///tmp/kv", "--threads", "0"], "--threads '0': '0' is invalid"),
        (["bench", "file:///tmp/kv", "--loops", "8"], "--loops '8': '8' is invalid"),
        (["bench", "file:///tmp/kv", "--batches", "many"], "--batches 'many': 'many' is invalid"),
        (["bench", "file:///tmp/kv", "--budget", "soon"], "'soon' is not a duration"),
        (["bench", "file://HERE/kv", "--out", "TAKEN"], "already holds a measurement"),
    ],
)
def test_a_mistake_is_one_sentence(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "TAKEN").mkdir()
    (tmp_path / "TAKEN" / "bench.csv").write_text("")
    code, out, err = run(capsys, monkeypatch, *(word.replace("HERE", str(tmp_path)) for word in words))
    assert code == 2
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert "hunter2" not in out + err and "Traceback" not in out + err


def test_a_store_that_goes_away_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def gone(self: DiskStore, *_: object) -> None:
        raise StoreUnavailable("the server is gone; start it again")

    monkeypatch.setattr(DiskStore, "read", gone)
    code, _, err = run(capsys, monkeypatch, "bench", f"file://{tmp_path}/kv", *SMALL, "--out", str(tmp_path / "out"))
    assert (code, err) == (2, "error: the server is gone; start it again\n")
    with open_store(f"file://{tmp_path}/kv") as store:
        assert list(store.keys()) == []
