"""LMCache as an arm: what its processes are told. Nothing of LMCache is imported here."""

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import redis
from redis_running import redis_server
from servers import free_port

from harness.connector.peers import lmcache
from harness.connector.peers.arm import parse_peer
from harness.connector.peers.base import Peer, Place
from harness.core.errors import RunError, SetupError, UsageError

PLACE = Place(Path("/disk/peers/1"), 256)
URL = "redis://127.0.0.1:6379"


def peer(options: str = "") -> Peer:
    return parse_peer(f"lmcache:{options}").at(PLACE)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not it is."""
    monkeypatch.setattr("harness.connector.peers.base.version", lambda package: "0.5.6")


@pytest.mark.parametrize(("mode", "layerwise"), [("chunkwise", "False"), ("layerwise", "True")])
@pytest.mark.parametrize("backend", ["disk", "fs", "redis"])
def test_mode_and_backend_are_told_apart(mode: str, layerwise: str, backend: str) -> None:
    more = {"disk": ",threads=7", "fs": "", "redis": f",url={URL}"}[backend]
    told = peer(f"mode={mode},backend={backend}{more}").environment()
    assert told["LMCACHE_USE_LAYERWISE"] == layerwise
    own = {
        "disk": {
            "LMCACHE_LOCAL_DISK": "file:///disk/peers/1/",
            "LMCACHE_MAX_LOCAL_DISK_SIZE": "1000",
            "LMCACHE_EXTRA_CONFIG": json.dumps({"disk_io_threads": 7}),
        },
        "fs": {"LMCACHE_REMOTE_URL": "fs://localhost:0/disk/peers/1/"},
        "redis": {"LMCACHE_REMOTE_URL": URL},
    }[backend]
    of_backends = {"LMCACHE_LOCAL_DISK", "LMCACHE_MAX_LOCAL_DISK_SIZE", "LMCACHE_EXTRA_CONFIG", "LMCACHE_REMOTE_URL"}
    assert {name: value for name, value in told.items() if name in of_backends} == own


def test_what_every_arm_is_told() -> None:
    told = peer("asynchronous=true,cpu=true,staging_gib=0.5").environment()
    assert told["PYTHONHASHSEED"] == "0"  # chunks are named by Python's hash, which each process seeds by itself otherwise
    assert told["LMCACHE_TRACK_USAGE"] == "false"
    assert told["LMCACHE_CHUNK_SIZE"] == "256"
    assert told["LMCACHE_ENABLE_ASYNC_LOADING"] == told["LMCACHE_LOCAL_CPU"] == "True"
    assert told["LMCACHE_MAX_LOCAL_CPU_SIZE"] == "0.5"
    assert peer().environment()["LMCACHE_LOCAL_CPU"] == "False"


def test_a_gpu_gets_lmcaches_own_connector_and_a_cpu_the_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmcache, "uses_gpu", lambda: True)
    assert peer().transfer() == {"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}
    monkeypatch.setattr(lmcache, "uses_gpu", lambda: False)
    told = peer().transfer()
    assert (told["kv_connector"], told["kv_role"]) == ("LMCacheOnCPU", "kv_both")
    module = Path(__file__).parents[3].joinpath(*told["kv_connector_module_path"].split(".")).with_suffix(".py")
    assert f"class {told['kv_connector']}(" in module.read_text(encoding="utf-8")


def test_only_what_is_to_be_kept_is_saved() -> None:
    assert peer().request(save=True) == {}
    assert peer().request(save=False) == {"lmcache.skip_save": "true"}


def test_heads_are_primed() -> None:
    assert not peer().primes_prompts


def test_a_package_that_is_missing_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr("harness.connector.peers.base.version", none)
    with pytest.raises(SetupError, match=r"the arm lmcache needs the package lmcache; install it: pip install 'ttft\[lmcache\]'"):
        peer().check()


def test_what_is_there_is_accepted() -> None:
    for options in ("", "mode=layerwise,backend=fs", f"backend=redis,url={URL}"):
        peer(options).check()


@pytest.mark.parametrize("url", ["", "url=127.0.0.1:6379", "url=rediss://127.0.0.1"])
def test_redis_needs_the_url_of_a_redis(url: str) -> None:
    with pytest.raises(UsageError, match=r"needs url=redis://HOST:PORT, or url=\$NAME of a variable that holds it"):
        peer(f"backend=redis,{url}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (f"url={URL}", "backend=disk has no server, so url does nothing"),
        (f"backend=fs,url={URL}", "backend=fs has no server"),
        ("backend=fs,threads=4", "threads belongs to backend=disk, and does nothing with backend=fs"),
    ],
)
def test_an_option_without_effect_is_refused(options: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        peer(options)


def test_a_url_with_a_password_stays_in_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KV_AT", "redis://me:hunter2@127.0.0.1")
    arm = parse_peer("lmcache:backend=redis,url=$KV_AT")
    arm.at(PLACE).check()
    assert arm.at(PLACE).environment()["LMCACHE_REMOTE_URL"] == "redis://me:hunter2@127.0.0.1"
    assert "hunter2" not in arm.name + arm.options.model_dump_json()
    monkeypatch.delenv("KV_AT")
    with pytest.raises(SetupError, match="the arm lmcache needs the environment variable KV_AT; set it to redis://HOST:PORT"):
        arm.at(PLACE).check()


def test_what_a_run_wrote_into_redis_goes_and_nothing_else() -> None:
    with redis_server() as server, redis.Redis(port=server.port, db=7) as ours, redis.Redis(port=server.port) as others:
        others.set("model@1@0@ab@bfloat16metadata", "another database's")
        with peer(f"backend=redis,url=redis://127.0.0.1:{server.port}/7").servers():
            ours.mset(
                {"model@1@0@ab@bfloat16metadata": "chunkwise", "model@1@0@-ab@bfloat16@3kv_bytes": "layerwise", "mine": "1"}
            )
        assert list(ours.scan_iter()) == [b"mine"]
        assert others.dbsize() == 1


def test_a_redis_database_in_use_is_refused_and_left_alone() -> None:
    with redis_server() as server, redis.Redis(port=server.port) as client:
        client.set("model@1@0@ab@bfloat16metadata", "of another job")
        with (
            pytest.raises(
                SetupError, match=r"holds 1 keys already; name an empty one for each such arm, as redis://HOST:PORT/7$"
            ),
            peer(f"backend=redis,url=redis://127.0.0.1:{server.port}").servers(),
        ):
            pass
        assert client.dbsize() == 1


def test_no_redis_is_said_before_vllm_starts() -> None:
    with (
        pytest.raises(SetupError, match=r"^the arm lmcache finds no Redis server at its url \(ConnectionError\); start it$"),
        peer(f"backend=redis,url=redis://127.0.0.1:{free_port()}").servers(),
    ):
        pass


def test_a_redis_that_dies_is_said_to_keep_the_keys() -> None:
    with (
        pytest.raises(RunError, match=r"may stay in the Redis server.*redis-cli -n DATABASE --scan --pattern '.*' lists$"),
        redis_server() as server,
        peer(f"backend=redis,url=redis://127.0.0.1:{server.port}").servers(),
    ):
        server.process.kill()
        server.process.wait()


def test_other_backends_need_no_server() -> None:
    with peer("backend=fs").servers():
        assert peer("backend=fs").request(save=True) == {}
