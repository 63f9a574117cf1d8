"""``ttft predict``: what it prints, what it writes, and one sentence for every mistake."""

import shlex
import sys
from pathlib import Path

import pandas as pd
import pytest

import cli
from harness.reporting.forecast import Grid
from harness.reporting.forecast.table import COLUMNS
from harness.testing.runs import write_synthetic_run

STORE = ["--latency-ms", "2", "--stream-mb-s", "300"]
MODEL = ["--layers", "24", "--layer-kib", "2"]
COMPUTE = ["--compute-ms", "60"]
QUICK = ["--prefix", "1024,4096", "--readers", "2,8", "--batches", "1"]
ARMS = ["chunkwise:pool=0", "layerwise:depth=4", "floor", "recompute"]


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["ttft", "predict", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    captured = capsys.readouterr()
    code = ended.value.code
    return (code if isinstance(code, int) else 0), captured.out, captured.err


def test_options_alone_give_a_table_its_limits_and_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "arms.csv"
    code, out, err = run(
        capsys, monkeypatch, *STORE, *MODEL, *COMPUTE, *QUICK, "--recompute-ms-per-token", "0.3", "--out", str(file)
    )
    assert (code, err) == (0, "")
    assert (
        "Store: 2 ms per call, 300 MB/s per stream, no bound together. Model: 24 layers, chunks of 256 tokens and 12.6 MB." in out
    )
    assert "Limits: one request at a time" in out and "one compute time stands for every prefix length" in out
    table = pd.read_csv(file)
    assert list(table.columns) == list(COLUMNS)
    chosen = table[table["recommended"]]
    assert chosen["prefix_tokens"].tolist() == [1024, 4096]
    for arm in chosen["arm"]:
        assert f"--arm {arm}" in out
    assert "--workload shared_prefix:prefix=1024,suffix=32 --arm chunkwise:pool=0 " in out
    assert "Fetching is faster than recomputing at each of these lengths." in out


def test_what_it_says_to_measure_can_be_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    _, out, _ = run(capsys, monkeypatch, *MODEL, *COMPUTE, *QUICK, *STORE, "--total-mb-s", "900")
    line = next(line for line in out.splitlines() if line.startswith("Measure it"))
    words = shlex.split(line.partition(": ")[2])
    assert words[3] == "shaped+mem://predicted?latency_ms=2&stream_mb_s=300&total_mb_s=900"
    monkeypatch.setattr(sys, "argv", [*words, "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (0, None), capsys.readouterr().err


def test_the_former_names_of_the_options_give_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    today = ["--latency-ms", "2", "--stream-mb-s", "300", "--total-mb-s", "900"]
    former = [word.replace("mb-s", "mbps") for word in today]
    _, expected, _ = run(capsys, monkeypatch, *MODEL, *COMPUTE, *QUICK, *today)
    code, out, err = run(capsys, monkeypatch, *MODEL, *COMPUTE, *QUICK, *former)
    assert (code, out) == (0, expected)
    assert err.splitlines() == [
        f"--{name}-mbps is called --{name}-mb-s now, since it counts megabytes a second" for name in ("stream", "total")
    ]


def test_the_default_grid_is_the_one_of_the_grid(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code, _, err = run(capsys, monkeypatch, *STORE, *MODEL, *COMPUTE, "--prefix", "256", "--out", str(tmp_path / "arms.csv"))
    assert (code, err) == (0, "")
    found = set(pd.read_csv(tmp_path / "arms.csv")["arm"])
    plain = {arm.name for arm in Grid().arms(24) if "auto" not in arm.name}
    assert plain < found
    assert all("groups=" in name for name in found - plain), "those of auto, as they are"


def test_the_model_gives_the_same_as_its_numbers(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    by_number = run(capsys, monkeypatch, *STORE, *MODEL, *COMPUTE, *QUICK)
    by_model = run(capsys, monkeypatch, *STORE, "--model", "builtin", *COMPUTE, *QUICK)
    assert by_number == by_model and by_number[0] == 0


def test_where_recomputing_is_sooner_it_says_from_where_fetching_pays(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out, _ = run(capsys, monkeypatch, *STORE, *MODEL, *COMPUTE, *QUICK, "--recompute-ms-per-token", "0.05")
    assert "Recomputing is as fast as fetching, or faster, at a prefix of 1,024 tokens." in out
    assert "Fetching pays from about " in out


def test_a_run_gives_the_numbers_and_is_told_beside_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = write_synthetic_run(tmp_path / "run", ARMS, rounds=3, prompts=4)
    code, out, err = run(capsys, monkeypatch, "--from", str(folder), "--readers", "2,8", "--batches", "1", "--margin", "0.1")
    assert (code, err) == (0, "")
    assert (
        "Measured / predicted in the measurement: layerwise:depth=4 " in out
        and " over 4 prompts; of it waiting for loads " in out
    )
    assert "Not within 0.1%: in the measurement the recurrence misjudged one arm against another by" in out
    assert "Fetching is faster than recomputing" in out
    folder = write_synthetic_run(tmp_path / "other", ARMS, rounds=3, prompts=4, mean_s={ARMS[1]: 0.9})
    _, out, _ = run(capsys, monkeypatch, "--from", str(folder), "--readers", "2,8", "--batches", "1")
    assert "Recommended is the simplest arm within 25%" in out and "WARNING: in the measurement the recurrence misjudged" in out


def test_numbers_stand_in_for_those_of_a_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = write_synthetic_run(tmp_path / "run", ARMS, rounds=3, prompts=4)
    words = ["--latency-ms", "7", "--total-mb-s", "900", "--chunk-tokens", "512", "--overhead-ms", "1", "--compute-ms", "9"]
    code, out, err = run(capsys, monkeypatch, "--from", str(folder), *words, *QUICK)
    assert (code, err) == (0, "")
    assert (
        "Store: 7 ms per call, 300 MB/s per stream, 900 MB/s together. Model: 24 layers, chunks of 512 tokens and 25.2 MB." in out
    )
    assert "10.0 ms" in out  # the floor


def test_a_run_of_a_real_store_needs_the_stores_numbers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    meta = {"config": {"store": "file:///kv", "concurrency": 1}}
    folder = write_synthetic_run(tmp_path / "run", ARMS, rounds=3, prompts=4, meta=meta)
    code, out, err = run(capsys, monkeypatch, "--from", str(folder), *STORE, "--readers", "2,8", "--batches", "1")
    assert (code, err) == (0, "") and "Measured / predicted in the measurement: chunkwise:pool=0" in out
    code, _, err = run(capsys, monkeypatch, "--from", str(folder))
    assert code == 2 and "give both --latency-ms and --stream-mb-s" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--compute-ms is needed"),
        ([*COMPUTE, *MODEL], "--latency-ms and --stream-mb-s are needed"),
        ([*COMPUTE, *STORE], "--layers and --layer-kib are needed"),
        ([*COMPUTE, *STORE, "--layers", "24"], "--layers and --layer-kib are needed"),
        ([*COMPUTE, *STORE, *MODEL, "--model", "builtin"], "remove --layers"),
        ([*COMPUTE, *STORE, "--model", "./nowhere"], "no model folder ./nowhere"),
        ([*COMPUTE, *STORE, "--layers", "0", "--layer-kib", "2"], "--layers is 0"),
        ([*COMPUTE, *STORE, "--layers", "2", "--layer-kib", "0"], "--layer-kib is 0; give more than 0"),
        (
            [*COMPUTE, *STORE, "--layers", "2", "--layer-kib", "1e308"],
            "--layer-kib is 1e+308; give more than 0, from 1e-06 to 1e+09",
        ),
        ([*COMPUTE, *MODEL, *STORE, "--stream-mb-s", "1e-320"], "--stream-mb-s is 9.99989e-321; give more than 0, from 1e-06"),
        ([*COMPUTE, *MODEL, *STORE, "--latency-ms", "1e308"], "--latency-ms is 1e+308; give 0 or more, up to 1e+09"),
        ([*COMPUTE, *MODEL, "--latency-ms", "-1", "--stream-mb-s", "300"], "--latency-ms is -1; give 0 or more"),
        ([*COMPUTE, *MODEL, "--latency-ms", "nan", "--stream-mb-s", "300"], "--latency-ms is nan"),
        ([*COMPUTE, *MODEL, "--latency-ms", "1", "--stream-mb-s", "0"], "--stream-mb-s is 0; give more than 0"),
        ([*COMPUTE, *MODEL, *STORE, "--total-mb-s", "inf"], "--total-mb-s is inf"),
        ([*COMPUTE, *MODEL, *STORE, "--chunk-tokens", "0"], "--chunk-tokens is 0"),
        ([*COMPUTE, *MODEL, *STORE, "--margin", "-5"], "--margin is -5"),
        ([*COMPUTE, *MODEL, *STORE, "--overhead-ms", "-5"], "--overhead-ms is -5"),
        ([*COMPUTE, *MODEL, *STORE, "--prefix", "1k"], "--prefix '1k' is invalid; write whole numbers"),
        ([*COMPUTE, *MODEL, *STORE, "--prefix", "1000"], "give 768 or 1,024"),
        ([*COMPUTE, *MODEL, *STORE, "--pools", "8,-2"], "pools has -2"),
        ([*MODEL, *STORE, "--compute-ms", "1024:5,2048:9"], "not of 4,096"),
        (["--from", "nowhere"], "nowhere has no run.json"),
        (["--from", "nowhere", "--layers", "3"], "remove --layers"),
        ([*COMPUTE, *MODEL, *STORE, *QUICK, "--out", "FILE/x.csv"], "x.csv cannot be written"),
    ],
)
def test_bad_input_is_one_sentence(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("a file where a folder should be")
    code, out, err = run(capsys, monkeypatch, *words)
    assert code == 2
    assert err.startswith("error: ") and err.count("\n") == 1
    assert message in err
    assert "Traceback" not in out + err
