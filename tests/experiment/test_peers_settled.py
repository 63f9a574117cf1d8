"""Which experiments peers can take part in, and where they work."""

import sys
from pathlib import Path
from typing import Any

import pytest

import cli
from harness.commands.measuring import peers_that_cannot_run
from harness.connector.peers import offloading
from harness.core.errors import UsageError
from harness.experiment.at_peer import TIMED, peer_settings, place_of
from harness.experiment.plan import Setting, settle
from harness.experiment.session import engine_settings
from harness.experiment.settings import merge
from harness.replay.in_process import transfer_arguments

MODEL = "builtin:layers=2,hidden=64,intermediate=64,vocabulary=256"
SHORT = "shared_prefix:groups=2,prefix=32,suffix=5,prompts=2,output=3"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def settled(**changes: Any) -> Setting:
    arms = ["chunkwise:pool=0", "lmcache", "example"]
    small = {"model": MODEL, "dtype": "float32", "workload": SHORT, "chunk_tokens": 16, "arms": arms}
    return settle(merge(small, changes))


@pytest.mark.parametrize("store", ["file:///tmp/kv", "file:///tmp/kv?direct=1", "aiofile:///tmp/kv"])
def test_peers_stand_among_the_arms(store: str) -> None:
    setting = settled(store=store)
    assert list(setting.arms) == ["chunkwise:pool=0", "lmcache", "example", "recompute", "floor"]
    assert [arm.name for arm in setting.peers] == ["lmcache", "example"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"cache_state": "natural"}, "the arm lmcache cannot be emptied between two runs, so only cache_state=primed"),
        ({"target": "http://127.0.0.1:8000"}, "the arm lmcache needs a vLLM of its own, which a target is not"),
        (
            {"store": "redis://me:hunter2@host"},
            r"which lie beside ours, so store=redis://me:\*\*\*@host cannot be used; use file",
        ),
        ({"store": "shaped+file:///tmp/kv?latency_ms=2"}, r"store=shaped\+file:///tmp/kv\?latency_ms=2 cannot be used; use file"),
        ({"store": "s3://bucket"}, "store=s3://bucket cannot be used; use file:///FOLDER"),
    ],
)
def test_what_peers_cannot_do_is_refused_before_anything_starts(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        settled(**changes)


@pytest.mark.parametrize(
    ("words", "command"),
    [(["serve", "--dry-run"], "ttft serve"), (["sweep", "--dry-run", "--vary", "concurrency=1,2"], "ttft sweep")],
)
def test_commands_with_one_vllm_for_all_refuse_peers(
    words: list[str], command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [
        "--store",
        "file:///kv",
        "--workload",
        SHORT,
        "--model",
        MODEL,
        "--arm",
        "example",
        "--set",
        "chunk_tokens=16",
        "--set",
        "dtype=float32",
    ]
    monkeypatch.setattr(sys, "argv", ["ttft", *words, *own])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    sentence = f"the arm example needs a vLLM of its own, which {command} cannot give it; use ttft compare"
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_ours_alone_may_do_all_of_it() -> None:
    assert settled(arms=["chunkwise:pool=0"], cache_state="natural", bounds=False).peers == []
    assert settled(arms=["chunkwise:pool=0"], store="shaped+file:///tmp/kv?latency_ms=2").peers == []


def test_a_peer_works_below_the_store_and_no_two_runs_in_one_place(tmp_path: Path) -> None:
    setting = settled(store=f"file://{tmp_path}/a%20store?direct=1")
    one, other = (place_of(setting, tmp_path / "run" / "lanes" / name) for name in ("1-lmcache", "2-example"))
    assert one.folder.parent == other.folder.parent == (tmp_path / "a store" / "peers").resolve()
    assert one.folder != other.folder
    assert one.chunk_tokens == 16
    (tmp_path / "way").symlink_to(tmp_path)
    assert place_of(setting, tmp_path / "way" / "run" / "lanes" / "1-lmcache") == one  # driver and worker may spell it otherwise


def test_a_peers_vllm_differs_from_ours_in_the_connector_alone(tmp_path: Path) -> None:
    setting = settled(vllm={"block_size": 16}, load_failure_policy="fail", kv_cache_gib=0.5)
    arm = setting.peers[1]
    theirs = peer_settings(setting, arm.at(place_of(setting, tmp_path)))
    ours = engine_settings(setting, "float32", tmp_path, save=False)
    for name in ("model", "dtype", "max_model_len", "kv_cache_bytes", "load_failure_policy", "tensor_parallel", "extra"):
        assert getattr(theirs, name) == getattr(ours, name)
    told = transfer_arguments(theirs)
    assert (told["kv_connector"], told["kv_load_failure_policy"]) == ("ExampleConnector", "fail")
    assert told["kv_connector_module_path"] == TIMED


@pytest.mark.parametrize(
    ("spec", "connector", "module"),
    [
        ("connector:Some", "Some", TIMED),
        ("connector:Some,module=a.b", "Some@a.b", TIMED),
        ("connector:MultiConnector", "MultiConnector", None),
    ],
)
def test_the_connector_is_named_to_what_times_it(tmp_path: Path, spec: str, connector: str, module: str | None) -> None:
    setting = settled(arms=[spec])
    told = transfer_arguments(peer_settings(setting, setting.peers[0].at(place_of(setting, tmp_path))))
    assert (told["kv_connector"], told.get("kv_connector_module_path")) == (connector, module)


def test_ours_is_named_as_it_is(tmp_path: Path) -> None:
    ours = engine_settings(settled(), "float32", tmp_path, save=False)
    assert transfer_arguments(ours)["kv_connector"] == "TTFTConnector"


def test_a_plan_says_who_would_be_refused_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offloading, "uses_gpu", lambda: False)
    monkeypatch.delenv("A_TOKEN", raising=False)
    arms = ["chunkwise:pool=0", "example", "offloading", "connector:Some,token=$A_TOKEN"]
    said = peers_that_cannot_run(settled(arms=arms), tmp_path / "run")
    assert [line.partition(" needs ")[0] for line in said] == ["refused   the arm offloading", "refused   the arm connector:Some"]
    assert "the environment variable A_TOKEN" in said[1]
    assert not (tmp_path / "run").exists()
