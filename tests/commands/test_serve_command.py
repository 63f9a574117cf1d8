"""``ttft serve`` up to the start of vLLM: what it would run, and what it refuses."""

import json
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

import cli
from harness.replay.server.about import read

TINY = ["--model", "builtin:layers=2,hidden=64,intermediate=64,vocabulary=256", "--dtype", "float32"]
SHORT = [*TINY, "--workload", "shared_prefix:groups=2,prefix=512,suffix=40,prompts=1"]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def serve(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["ttft", "serve", *SHORT, *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    captured = capsys.readouterr()
    code = ended.value.code
    return (code if isinstance(code, int) else 0), captured.out, captured.err


def connector(words: list[str]) -> dict[str, Any]:
    told = json.loads(words[words.index("--kv-transfer-config") + 1])["kv_connector_extra_config"]
    assert isinstance(told, dict)
    return told


def test_a_dry_run_prints_the_command_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code, out, err = serve(
        capsys, monkeypatch, "--dry-run", "--arm", "layerwise:depth=2", "--store", "file:///kv", "--port", "81"
    )
    words = shlex.split(out)
    assert (code, err) == (0, "")
    assert words[1:3] == ["-m", "vllm.entrypoints.openai.api_server"] and words[words.index("--port") + 1] == "81"
    assert {"--no-async-scheduling", "--enable-prompt-tokens-details"} <= set(words)
    assert connector(words)["arms"] == ["layerwise:depth=2", "recompute", "floor", "chunkwise"]
    assert connector(words)["store"] == "file:///kv" and connector(words)["save"] is True
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}


def test_a_password_is_not_on_the_command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTFT_API_KEY", "s3cret-key")
    _, out, _ = serve(capsys, monkeypatch, "--dry-run", "--store", "redis://me:s3cret@host/0")
    assert "s3cret" not in out
    assert connector(shlex.split(out))["store"] == "$TTFT_STORE"


def test_the_server_s_environment_has_what_its_command_line_must_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.commands.serve import _prepared
    from harness.experiment.plan import settle
    from harness.experiment.settings import merge

    monkeypatch.setenv("TTFT_API_KEY", "s3cret-key")
    monkeypatch.setenv("VLLM_WORKER_MULTIPROC_METHOD", "fork")
    settled = settle(merge({"model": TINY[1], "dtype": "float32", "store": "redis://me:s3cret@host/0"}))
    told = _prepared(settled, tmp_path / "served")
    assert (told["TTFT_STORE"], told["VLLM_API_KEY"]) == ("redis://me:s3cret@host/0", "s3cret-key")
    assert told["VLLM_WORKER_MULTIPROC_METHOD"] == "fork"  # the user's own word holds
    about = read(tmp_path / "served")
    assert about.arms == settled.served_arms and about.here and about.span_log.is_dir()
    assert "s3cret" not in (tmp_path / "served" / "served.json").read_text()


def test_a_port_that_is_taken_is_one_sentence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, out, err = serve(capsys, monkeypatch, "--port", str(taken.getsockname()[1]))
    assert (code, out) == (2, "")
    assert err.startswith("error: nothing can be served at 127.0.0.1:") and err.count("\n") == 1


def test_a_folder_that_is_not_empty_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "served.json").write_text("{}")
    code, _, err = serve(capsys, monkeypatch, "--out", str(tmp_path / "old"))
    assert (code, err) == (2, f"error: {tmp_path / 'old'} is not empty; give another --out\n")


def test_a_target_makes_no_sense_here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = serve(capsys, monkeypatch, "--set", "target=http://127.0.0.1:1", "--dry-run")
    assert code == 2 and "remove target" in err
