"""A dry run says what would fail, how long it would take, and what memory."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fake_engine import MODEL, Lab, lab

import cli
from harness.commands import preflight
from harness.connector.peers.arm import parse_peer
from harness.core.errors import SetupError
from harness.experiment.sweep.estimate import REQUEST_S, START_S, estimate_of

__all__ = ["lab"]
Ttft = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ttft(lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ttft:
    def run(*words: str, store: str = lab.store_url) -> tuple[int, str, str]:
        settings = ["--store", store, "--model", MODEL, "--dtype", "float32", "--set", "chunk_tokens=16", "--dry-run"]
        settings += ["--workload", "shared_prefix:groups=2,prefix=32,suffix=5,prompts=2,output=3"]
        monkeypatch.setattr(sys, "argv", ["ttft", *words, *settings])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


COMMANDS = [
    ["compare"],
    ["gate", "--run", "default", "--candidate", "layerwise", "--base", "chunkwise", "--max", "p50:5%"],
    ["calibrate"],
    ["sweep", "--vary", "concurrency=1,2"],
    ["tune"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_every_dry_run_asks_the_store_and_leaves_nothing_in_it(lab: Lab, ttft: Ttft, words: list[str]) -> None:
    code, out, err = ttft(*words)
    assert (code, err) == (0, "") and "is there and can be written" in out
    assert lab.left() == set() and lab.vllm.engines == []


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_store_that_is_not_there_ends_the_plan_with_code_2(lab: Lab, ttft: Ttft, words: list[str]) -> None:
    code, out, err = ttft(*words, store="redis://127.0.0.1:1/0")
    assert code == 2 and "refused   the store cannot be used: the redis server at 127.0.0.1:1 is not there" in out
    assert err == "error: this would not run: mend what the line above that begins with 'refused' says\n"


def test_a_target_that_is_not_there_is_told(ttft: Ttft) -> None:
    code, out, _ = ttft("compare", "--target", "http://127.0.0.1:1")
    assert code == 2 and "refused   the server at http://127.0.0.1:1 cannot be reached (Connection refused)" in out
    assert "memory " not in out, "a server's memory is its own"


def test_each_server_of_a_comparison_is_asked(ttft: Ttft) -> None:
    arms = ["--arm", "target:http://127.0.0.1:1,name=old", "--arm", "target:http://127.0.0.1:2,name=new"]
    code, out, _ = ttft("compare", *arms)
    assert code == 2 and out.count("cannot be reached (Connection refused)") == 2
    assert "store " not in out and "memory " not in out, "servers have their own"


def test_groups_that_are_not_the_model_s_are_told(ttft: Ttft) -> None:
    for arm in ("layerwise:groups=5+6", "deferred:groups=5+6"):
        code, out, _ = ttft("compare", "--arm", arm)
        assert code == 2 and f"refused   arm {arm}: groups=5+6 come to 11 layers" in out
    assert ttft("compare", "--arm", "layerwise:groups=1")[0] == 0


def test_a_folder_that_cannot_be_made_is_told(ttft: Ttft, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, out, _ = ttft("compare", "--out", str(tmp_path / "file" / "run"))
    assert code == 2 and f"refused   {tmp_path}/file is no folder" in out


def test_a_budget_below_the_estimate_is_told(ttft: Ttft) -> None:
    _, out, _ = ttft(*COMMANDS[1], "--budget", "60s")
    assert "more than the budget of 60s, so it ends with fewer rounds than planned" in out


def test_the_time_counts_starts_and_requests(lab: Lab) -> None:
    setting = lab.setting(pairs=5, recompute_rounds=2)  # 2 arms and floor in 5 rounds, recompute in 2, of 4 prompts each
    found = estimate_of(setting, lab.folder)
    untimed = len(setting.heads) + len(setting.arms)
    assert found.seconds == START_S + (17 * 4 + untimed) * REQUEST_S
    assert "an assumption" in found.text


def test_memory_counts_each_vllm_and_what_peers_keep(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.core.machine.uses_gpu", lambda: False)
    monkeypatch.setattr(preflight, "_available", lambda: 3 << 30)
    setting = lab.setting(kv_cache_gib=1.0)
    (alone,) = preflight._memory_lines(setting)
    assert "1.00 GiB of KV cache; 3.00 GiB are available" in alone and "2 x" not in alone
    peer = parse_peer("lmcache:staging_gib=1.5")
    (line,) = preflight._memory_lines(replace(setting, arms={**setting.arms, peer.name: peer}))
    assert line.startswith("memory    3.5") and "2 x (" in line and "1.5 GiB of lmcache:staging_gib=1.5" in line
    assert line.endswith("THAT IS MORE THAN THERE IS, lower kv_cache_gib")


def test_several_refusals_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SetupError, match="mend what the 2 lines above"):
        preflight.print_plan(["store     there", preflight.Refused("this"), preflight.Refused("that")])
    assert capsys.readouterr().out.count("\n") == 3
