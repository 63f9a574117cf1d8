"""The command line: goldens of what it prints, and one clear sentence for every mistake."""

import builtins
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import cli
from harness.results import RunWriter
from harness.testing.runs import write_synthetic_run

GOLDENS = Path(__file__).parent / "goldens"
TINY = ["--model", "builtin:layers=2,hidden=64,intermediate=64,vocabulary=256", "--dtype", "float32"]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``ttft`` with these words."""
    monkeypatch.setattr(sys, "argv", ["ttft", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    captured = capsys.readouterr()
    code = ended.value.code
    return (code if isinstance(code, int) else 0), captured.out, captured.err


@pytest.mark.parametrize("kind", ["engines", "peers", "stores", "workloads", "settings"])
def test_list_prints_names_options_and_defaults(
    kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run(capsys, monkeypatch, "list", kind)
    assert (code, err) == (0, "")
    golden = GOLDENS / f"list_{kind}.txt"
    assert re.sub(r" +\n", "\n", out) == golden.read_text()


def test_dry_run_prints_the_plan_and_starts_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = [
        *TINY,
        "--workload",
        "shared_prefix:groups=2,prefix=512,suffix=40,prompts=1",
        "--pairs",
        "6",
        "--out",
        str(tmp_path / "run"),
    ]
    code, out, err = run(capsys, monkeypatch, "compare", *words, "--dry-run")
    assert (code, err) == (0, "")
    assert "2 of 552 to 552 tokens, 1024 of 1104 tokens hit" in out
    assert "4 chunks of 256 tokens" in out
    first, second = (
        "chunkwise:pool=0 0:chunkwise:pool=8 0:layerwise:depth=4",
        "1:layerwise:depth=4 1:chunkwise:pool=8 1:chunkwise:pool=0",
    )
    assert first in out and second in out
    assert not (tmp_path / "run").exists()


TRACE = '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}\n'


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--arm", "chunkwize"],
            "unknown engine 'chunkwize' (did you mean 'chunkwise'?); known: auto, chunkwise, connector, ",
        ),
        (["--arm", "chunkwise:pol=8"], "unknown option of engine 'chunkwise' 'pol' (did you mean 'pool'?)"),
        (["--arm", "chunkwise:pool=many"], "engine 'chunkwise': pool='many' is invalid"),
        (["--arm", "layerwise:depth"], "'depth' in 'layerwise:depth' is not option=value"),
        (["--workload", "share_prefix"], "unknown workload 'share_prefix' (did you mean 'shared_prefix'?)"),
        (["--workload", "shared_prefix:prefix=-3"], "prefix='-3' is invalid"),
        (["--workload", "mooncake:path=BAD"], "BAD:2"),
        (["--workload", "mooncake:path=nowhere.jsonl"], "nowhere.jsonl"),
        (["--workload", "mooncake:path=LONG,scale=1"], "scale="),
        (["--set", "pears=3"], "unknown option of the experiment 'pears'"),
        (["--set", "pairs"], "--set pairs is not KEY=VALUE"),
        (["--set", "vllm.a=" + "[" * 50_000], "is nested too deeply; give a simpler value"),
        (["--set", "seed=" + "9" * 5000], "seed='999"),
        (["--set", "kv_cache_gib=1e400"], "kv_cache_gib=inf is invalid"),
        (["x" * 5000], "unknown experiment 'xxx"),
        (["--set", "workload=" + "x" * 50_000], "unknown workload 'xxx"),
        (["--arm", "chunkwise@my run"], "has a space, or a character that does not show, in its name"),
        (["--arm", "chunkwise:pool=8@\u202e"], "arm 'chunkwise:pool=8@\\u202e' has a space, or a character"),
        (["DEEP"], "DEEP.toml is not valid TOML: it is nested too deeply"),
        (["--cache-state", "cold"], "cache_state='cold' is invalid"),
        (["nothing-like-that"], "unknown experiment 'nothing-like-that'"),
        (["--workload", "shared_prefix:prefix=100,suffix=20"], "nothing to load"),
        (["--model", "./no-such-folder"], "no model folder ./no-such-folder"),
        (["--resume", "nowhere"], "nowhere has no run.json"),
        (["--resume", "nowhere", "--pairs", "3"], "remove pairs"),
        (["--out", "TAKEN"], "already holds a measurement"),
    ],
)
def test_bad_input_to_compare_is_one_sentence(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = {"BAD": tmp_path / "BAD", "LONG": tmp_path / "LONG", "TAKEN": tmp_path / "TAKEN"}
    files["BAD"].write_text(TRACE + "{not json}\n")
    ids = ", ".join(map(str, range(200)))
    line = f'{{"timestamp": 0, "input_length": 102400, "output_length": 5, "hash_ids": [{ids}]}}\n'
    files["LONG"].write_text(line * 2)
    files["DEEP"] = tmp_path / "DEEP.toml"
    files["DEEP"].write_text("vllm = {a = " + "[" * 50_000)
    write_synthetic_run(files["TAKEN"], arms=["chunkwise:pool=0"], rounds=1, prompts=1)
    for name, path in files.items():
        words = [re.sub(rf"\b{name}\b", str(path), word) for word in words]
    tiny = [] if "--model" in words else TINY
    code, out, err = run(capsys, monkeypatch, "compare", *(tiny if "--resume" not in words else []), *words)
    assert code == 2
    assert err.startswith("error: ") and err.count("\n") == 1
    assert message in err and len(err) < 2500
    assert "Traceback" not in out + err


def test_a_refused_target_leaves_no_folder_behind(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ["--target", "http://127.0.0.1:1", "--store", f"file://{tmp_path / 'kv'}"]
    code, _, err = run(capsys, monkeypatch, "compare", *TINY, *words, "--out", str(tmp_path / "run"))
    assert code == 2 and err.count("\n") == 1 and "127.0.0.1:1" in err
    assert not (tmp_path / "run").exists()
    (tmp_path / "mine").mkdir()
    code, _, _ = run(capsys, monkeypatch, "compare", *TINY, *words, "--out", str(tmp_path / "mine"))
    assert code == 2 and (tmp_path / "mine" / "run.json").exists(), "only what the command made is removed"


def test_a_current_folder_that_was_removed_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    code, _, err = run(capsys, monkeypatch, "trend", "x")
    assert code == 2 and err == "error: the current folder does not exist any more; change to another one and try again\n"
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ("fiel:///tmp/x", "unknown store 'fiel' (did you mean 'file'?)"),
        ("file:///tmp/x?dirct=1", "unknown option of store 'file' 'dirct' (did you mean 'direct'?)"),
        ("/tmp/x", "is not a store URL"),
        ("file://FILE/kv", "FILE"),
        ("shaped+file:///tmp/x?latency_ms=-1", "latency_ms"),
    ],
)
def test_a_bad_store_is_one_sentence(
    store: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "FILE").write_text("a file where a folder should be")
    words = ["--store", store.replace("FILE", str(tmp_path / "FILE")), "--out", str(tmp_path / "run")]
    code, out, err = run(capsys, monkeypatch, "compare", *TINY, *words)
    assert code == 2
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert "Traceback" not in out + err


def test_without_vllm_it_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "vllm":
            raise ImportError("No module named 'vllm'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    words = ["--store", f"file://{tmp_path / 'kv'}", "--out", str(tmp_path / "run")]
    code, _, err = run(capsys, monkeypatch, "compare", *TINY, *words)
    assert code == 2
    assert "vLLM does not import" in err and "make" in err and err.count("\n") == 1


def test_report_renders_a_stored_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = write_synthetic_run(tmp_path / "run", arms=["chunkwise:pool=0", "layerwise:depth=4"], rounds=6, prompts=12)
    code, out, err = run(capsys, monkeypatch, "report", str(folder))
    assert (code, err) == (0, "")
    assert "layerwise:depth=4" in out
    assert (folder / "report.md").exists() and (folder / "pictures" / "ecdf.png").exists()


def test_resuming_a_run_without_settings_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_text('{"schema": "1.0"}')
    code, _, err = run(capsys, monkeypatch, "compare", "--resume", str(tmp_path))
    assert code == 2
    assert "holds no settings, so it cannot be resumed" in err and err.count("\n") == 1


def test_a_verdict_that_cannot_be_written_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = write_synthetic_run(tmp_path / "run", arms=["a", "b"], rounds=6, prompts=12)
    (tmp_path / "FILE").write_text("a file where a folder should be")
    words = ["--base", "a", "--candidate", "b", "--max", "p50:50%", "--out", str(tmp_path / "FILE" / "verdict")]
    code, _, err = run(capsys, monkeypatch, "gate", str(folder), *words)
    assert code == 2
    assert "the verdict cannot be written to" in err and err.count("\n") == 1


def test_another_schema_version_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    writer = RunWriter(tmp_path / "run")
    writer.write_meta({"id": "x"})
    writer.close()
    file = tmp_path / "run" / "run.json"
    file.write_text(file.read_text().replace('"schema": "2.', '"schema": "7.'))
    for command in (["report"], ["gate", "--candidate", "a", "--base", "b", "--max", "p50:5%"]):
        code, _, err = run(capsys, monkeypatch, *command, str(tmp_path / "run"))
        assert code == 2
        assert "schema 7." in err and err.count("\n") == 1


@pytest.mark.parametrize(("ratio", "code", "outcome"), [(1.0, 0, "PASS"), (1.5, 1, "FAIL")])
def test_gate_ends_with_the_code_of_its_verdict(
    ratio: float, code: int, outcome: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arms = ["chunkwise:pool=0", "layerwise:depth=4"]
    folder = write_synthetic_run(tmp_path / "run", arms=arms, rounds=8, prompts=24, mean_s={arms[0]: 0.5, arms[1]: 0.5 * ratio})
    words = [
        "gate",
        str(folder),
        "--base",
        arms[0],
        "--candidate",
        arms[1],
        "--max",
        "p50:10%",
        "--out",
        str(tmp_path / "verdict"),
    ]
    found, out, err = run(capsys, monkeypatch, *words)
    assert found == code, out + err
    assert outcome in out
    assert {path.name for path in (tmp_path / "verdict").iterdir()} == {"verdict.json", "verdict.md", "junit.xml"}


def test_gate_refuses_what_it_cannot_judge(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = write_synthetic_run(tmp_path / "run", arms=["a", "b"], rounds=6, prompts=12)
    for words, message in [
        (["--base", "a", "--candidate", "c", "--max", "p50:5%"], "'c'"),
        (["--base", "a", "--candidate", "b", "--max", "q50:5%"], "q50"),
        (["--base", "a", "--candidate", "b", "--max", "p50:300%"], "300"),
    ]:
        code, _, err = run(capsys, monkeypatch, "gate", str(folder), *words)
        assert code == 2
        assert message in err and "Traceback" not in err


def test_doctor_lists_its_checks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, out, _ = run(capsys, monkeypatch, "doctor", "--place", str(tmp_path))
    assert code in (0, 2)
    assert "vLLM" in out


def test_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(capsys, monkeypatch, "--version")[1].strip().count(".") == 2


def test_the_command_line_is_there_at_once() -> None:
    """Whatever is slow to import is imported by the commands that need it, when they run."""
    heavy = "{'torch', 'vllm', 'numpy', 'pandas', 'scipy', 'matplotlib', 'aiohttp'}"
    code = f"import sys; before = set(sys.modules); import cli; print(sorted({heavy} & (set(sys.modules) - before)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=GOLDENS.parents[1], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
