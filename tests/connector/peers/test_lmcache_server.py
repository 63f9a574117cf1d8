"""LMCache's server as an arm: what server and connector are told, and the real server, without vLLM."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from servers import lacking

from harness.connector.peers.arm import parse_peer
from harness.connector.peers.base import Place
from harness.connector.peers.lmcache_server import LMCacheServer
from harness.connector.peers.servers import answers
from harness.core.errors import UsageError


def peer(folder: Path = Path("/disk/peers/1"), options: str = "") -> LMCacheServer:
    made = parse_peer(f"lmcache-server:{options}").at(Place(folder, 256))
    assert isinstance(made, LMCacheServer)
    return made


def words(made: LMCacheServer) -> dict[str, str]:
    command = made.command()
    return dict(zip(command[4:-1:2], command[5:-1:2], strict=True))


def test_connector_and_server_meet_on_one_port_of_the_loopback() -> None:
    made = peer()
    told: dict[str, Any] = made.transfer()["kv_connector_extra_config"]
    assert words(made)["--host"] == "127.0.0.1" and told["lmcache.mp.host"] == "tcp://127.0.0.1"
    assert words(made)["--port"] == str(told["lmcache.mp.port"]) == str(made.port)
    assert made.transfer() == made.transfer()


def test_what_a_stop_of_both_must_not_break() -> None:
    assert words(peer())["--worker-reap-timeout-seconds"] == "0"
    assert peer().transfer()["kv_connector_extra_config"]["lmcache.mp.heartbeat_interval"] >= 3600


def test_what_is_stored_lies_in_the_peers_folder_and_nowhere_else_unless_asked_for() -> None:
    told = words(peer())
    assert json.loads(told["--l2-adapter"]) == {"type": "fs", "base_path": "/disk/peers/1", "use_odirect": False}
    assert (told["--l2-store-policy"], told["--l2-prefetch-policy"]) == ("skip_l1", "default")
    kept = words(peer(options="cpu=true,direct=true"))
    assert (kept["--l2-store-policy"], kept["--l2-prefetch-policy"]) == ("default", "retain")
    assert json.loads(kept["--l2-adapter"])["use_odirect"] is True


def test_options_reach_whom_they_concern() -> None:
    made = peer(options="transfer=engine_driven,workers=3,staging_gib=0.5")
    assert made.transfer()["kv_connector_extra_config"]["lmcache.mp.mp_transfer_mode"] == "engine_driven"
    assert (words(made)["--max-workers"], words(made)["--l1-size-gb"], words(made)["--chunk-size"]) == ("3", "0.5", "256")
    with pytest.raises(UsageError):
        peer(options="transfer=magic")


def test_a_measured_request_saves_nothing() -> None:
    assert peer().request(save=True) == {}
    assert peer().request(save=False) == {"lmcache.max_offload_tokens": 0}


def test_the_installed_lmcache_still_heeds_what_keeps_requests_from_saving() -> None:
    spec = find_spec("lmcache")
    if spec is None or spec.origin is None:
        lacking("the package lmcache", "pip install 'ttft[lmcache]'")
        return
    source = Path(spec.origin).with_name("integration") / "vllm" / "lmcache_mp_metadata.py"
    assert all(name in source.read_text(encoding="utf-8") for name in peer().request(save=False))


def test_the_real_server_answers_and_ends(tmp_path: Path) -> None:
    if find_spec("lmcache") is None:
        lacking("the package lmcache", "pip install 'ttft[lmcache]'")
    made = peer(tmp_path, "staging_gib=0.1")
    made.check()
    with made.servers():
        assert answers(made.port)
    assert not answers(made.port)
