"""vLLM's own offloading as an arm: what it is told, and its refusal on a CPU."""

from pathlib import Path

import pytest

from harness.connector.peers import offloading
from harness.connector.peers.arm import parse_peer
from harness.connector.peers.base import Peer, Place
from harness.core.errors import SetupError


def peer(options: str = "") -> Peer:
    return parse_peer(f"offloading:{options}").at(Place(Path("/disk/peers/1"), 256))


def test_the_second_tier_lies_in_the_peers_folder() -> None:
    told = peer("cpu_gib=0.5,readers=4,writers=2").transfer()
    assert told["kv_connector"] == "OffloadingConnector"
    assert told["kv_connector_extra_config"] == {
        "spec_name": "TieringOffloadingSpec",
        "cpu_bytes_to_use": 2**29,
        "block_size": 256,
        "secondary_tiers": [{"type": "fs", "root_dir": "/disk/peers/1", "n_read_threads": 4, "n_write_threads": 2}],
    }


def test_a_measured_request_saves_nothing() -> None:
    assert peer().request(save=True) == {}
    assert peer().request(save=False) == {"max_offload_tokens": 0}


def test_without_a_gpu_it_refuses_before_vllm_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offloading, "uses_gpu", lambda: False)
    with pytest.raises(SetupError, match=r"^the arm offloading needs a GPU: .*; remove the arm here$"):
        peer().check()
    monkeypatch.setattr(offloading, "uses_gpu", lambda: True)
    peer().check()
