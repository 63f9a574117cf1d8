"""Mooncake as an arm: what its cluster and vLLM's client are told, and a real cluster, without vLLM."""

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from mooncake_running import program

from harness.connector.peers import mooncake_store
from harness.connector.peers.arm import parse_peer
from harness.connector.peers.base import Place
from harness.connector.peers.mooncake_store import MooncakeStorePeer
from harness.connector.peers.servers import answers
from harness.core.errors import SetupError
from harness.stores import open_store
from harness.stores.base import Read


def peer(folder: Path = Path("/disk/peers/1"), options: str = "") -> MooncakeStorePeer:
    made = parse_peer(f"mooncake-store:{options}").at(Place(folder, 256))
    assert isinstance(made, MooncakeStorePeer)
    return made


def test_vllm_lends_no_memory_and_asks_the_master_that_is_started() -> None:
    made = peer(options="buffer_gib=0.5")
    told = made.configuration()
    assert told["master_server_address"] == f"127.0.0.1:{made.ports[0]}"
    assert (told["mode"], told["global_segment_size"], told["local_buffer_size"]) == ("standalone-store", 0, 2**29)
    master, storage = made.commands()
    assert f"--rpc_port={made.ports[0]}" in master and f"--master_server_address=127.0.0.1:{made.ports[0]}" in storage


def test_all_ports_are_on_the_loopback() -> None:
    master, storage = peer().commands()
    assert {"--rpc_address=127.0.0.1", "--metrics_host=127.0.0.1"} <= set(master)
    assert "--host=127.0.0.1" in storage
    assert peer().environment()["MOONCAKE_REQUESTER_LOCAL_HOSTNAME"] == "127.0.0.1"


def test_options_reach_the_storage_client() -> None:
    storage = peer(options="protocol=rdma,devices=mlx5_0,memory_gib=0.25").commands()[1]
    assert {"--protocol=rdma", "--device_names=mlx5_0", "--global_segment_size=256MB"} <= set(storage)
    assert not any("device_names" in word for word in peer().commands()[1])


def test_the_configuration_is_no_file_of_what_is_stored() -> None:
    made = peer()
    file = Path(made.environment()["MOONCAKE_CONFIG_PATH"])
    assert made.place.folder not in file.parents


def test_a_package_that_does_not_load_is_refused_before_vllm_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise SetupError("no mooncake here")

    monkeypatch.setattr(mooncake_store, "load", fail)
    with pytest.raises(SetupError, match="no mooncake here"):
        peer().check()


def test_a_gpu_needs_the_package_that_knows_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(mooncake_store, "load", lambda: None)
    monkeypatch.setattr(mooncake_store, "version", none)
    monkeypatch.setattr(mooncake_store, "uses_gpu", lambda: False)
    peer().check()
    monkeypatch.setattr(mooncake_store, "uses_gpu", lambda: True)
    with pytest.raises(SetupError, match=r"needs the package mooncake-transfer-engine, .*; install it in place of the other"):
        peer().check()


def test_a_real_cluster_keeps_what_it_is_given_and_leaves_nothing(tmp_path: Path) -> None:
    program("mooncake.cli")
    made = peer(tmp_path / "1", "memory_gib=0.25")
    made.check()
    with made.servers():
        assert json.loads(made.config_file.read_text()) == made.configuration()
        out = bytearray(4)
        with open_store(f"mooncake://127.0.0.1:{made.ports[0]}?admin_port={made.ports[1]}&buffer_mb=16") as store:
            store.write("a1", [b"kept"])
            store.read([Read("a1", 0, (memoryview(out),))])
        assert out == b"kept"
    assert not any(answers(port) for port in made.ports)
    assert not list(tmp_path.iterdir())
