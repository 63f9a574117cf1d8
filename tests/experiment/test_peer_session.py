"""A session with a peer: what is primed, how its saves are waited for, and what of it is left behind."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_engine import CHUNK
from peer_engine import SAVES_NOT, Asked, PeerLab, peer_lab

from harness.core.errors import RunError, SetupError
from harness.experiment import at_peer as peer_session
from harness.experiment.at_peer import session_with_peer
from harness.replay.in_process import EngineSettings
from harness.stores.base import open_store
from harness.stores.files.page_cache import drop, resident_pages

__all__ = ["peer_lab"]

HEADS = [list(range(2 * CHUNK)), list(range(100, 100 + 3 * CHUNK))]
SETTINGS = EngineSettings("model", "float32", 256, 2**20, {})


async def test_heads_are_stored_and_read_back_by_one_token_more(peer_lab: PeerLab) -> None:
    await peer_lab.session().prime(HEADS, "")
    first, second, again, once_more = peer_lab.engine.asked
    assert [first.tokens, second.tokens] == [tuple(head) for head in HEADS]
    assert [again.tokens, once_more.tokens] == [(*head, head[0]) for head in HEADS]
    assert [asked.params for asked in peer_lab.engine.asked] == [{}, {}, {SAVES_NOT: "true"}, {SAVES_NOT: "true"}]
    assert [again.hit, once_more.hit] == [2 * CHUNK, 3 * CHUNK]


async def test_saves_behind_the_request_are_waited_for(peer_lab: PeerLab) -> None:
    peer_lab.engine.behind = 9
    await peer_lab.session().prime(HEADS, "")
    assert peer_lab.engine.asked[-1].hit == 3 * CHUNK
    assert len(peer_lab.engine.asked) > 9


async def test_half_of_a_head_is_not_enough(peer_lab: PeerLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_session, "SETTLE_S", 0.0)
    peer_lab.engine.tamper = lambda asked: setattr(asked, "hit", min(asked.hit, CHUNK))
    with pytest.raises(RunError, match=f"does not give back what it stored: of 32 tokens .* 0 s ago or earlier, {CHUNK} hit"):
        await peer_lab.session().prime(HEADS, "")


@pytest.mark.parametrize("spec", ["lmcache", "example"])
async def test_a_peer_that_never_hits_is_given_up(peer_lab: PeerLab, spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_session, "SETTLE_S", 0.05)
    peer_lab.engine.behind = 10**9
    with pytest.raises(RunError, match=r"it does not give back what it stored: of 32 tokens .*, 0 hit; vllm\.log of this arm"):
        await peer_lab.session(spec).prime(HEADS, "")


@pytest.mark.parametrize("failing", [0, 1])
async def test_a_request_that_fails_while_priming_ends_it(peer_lab: PeerLab, failing: int) -> None:
    def fail(asked: Asked) -> None:
        asked.error = "it broke" if len(peer_lab.engine.asked) == failing + 1 else ""

    peer_lab.engine.tamper = fail
    with pytest.raises(RunError, match="priming failed: it broke"):
        await peer_lab.session().prime(HEADS[:1], "")


async def test_a_peer_of_whole_prompts_is_primed_with_them(peer_lab: PeerLab) -> None:
    peer_lab.engine.whole = True
    session = peer_lab.session("example")
    prompt = list(range(2 * CHUNK + 5))
    assert session.head(prompt, 2 * CHUNK) == prompt
    await session.prime([prompt], "")
    assert [asked.tokens for asked in peer_lab.engine.asked] == [tuple(prompt)] * 2
    assert peer_lab.session().head(prompt, 2 * CHUNK) == prompt[: 2 * CHUNK]


def pages(path: Path) -> int | None:
    with path.open("rb") as file:
        return resident_pages(file.fileno(), path.stat().st_size)


async def test_files_leave_the_page_cache_and_come_back(peer_lab: PeerLab) -> None:
    session = peer_lab.session()
    deep = peer_lab.place.folder / "a" / "b"
    deep.mkdir(parents=True)
    files = [peer_lab.place.folder / "one.pt", deep / "two.pt"]
    for path in [*files, deep / "empty.pt"]:
        path.write_bytes(os.urandom(0 if path.stem == "empty" else 9000))
    assert session.keep_cached([])
    with files[1].open("rb") as file:
        drop(file.fileno())
    if pages(files[1]) != 0:
        pytest.skip("this file system keeps its pages in memory, as tmpfs does")
    assert session.keep_cached([])
    assert pages(files[1]) == 3
    assert await session.drop_page_cache([])
    assert [pages(path) for path in files] == [0, 0]
    assert session.keep_cached([])
    assert [pages(path) for path in files] == [3, 3]
    assert session.facts()["peer"] == {"package": "lmcache", "files": 3, "stored_bytes": 18000}


async def test_a_file_that_goes_meanwhile_does_no_harm(peer_lab: PeerLab, monkeypatch: pytest.MonkeyPatch) -> None:
    session = peer_lab.session()
    (peer_lab.place.folder / "one.pt").write_bytes(b"k")
    there = session.files()
    monkeypatch.setattr(session, "files", lambda: [*there, peer_lab.place.folder / "gone.pt"])
    assert session.keep_cached([])
    assert session.facts()["peer"] == {"package": "lmcache", "files": 1, "stored_bytes": 1}
    await session.drop_page_cache([])


async def test_without_files_nothing_was_dropped(peer_lab: PeerLab) -> None:
    session = peer_lab.session()
    assert not await session.drop_page_cache([])
    assert session.keep_cached([])
    assert session.keys(HEADS[0], "") == []


def test_closing_stops_vllm_and_removes_the_folder(peer_lab: PeerLab, monkeypatch: pytest.MonkeyPatch) -> None:
    session = peer_lab.session()
    (peer_lab.place.folder / "one.pt").write_bytes(b"k")
    session.close(keep_store=True)
    assert peer_lab.engine.closed == 1
    assert not peer_lab.place.folder.exists()

    def fail() -> None:
        raise RuntimeError("an engine that does not stop")

    session = peer_lab.session()
    monkeypatch.setattr(peer_lab.engine, "close", fail)
    with pytest.raises(RuntimeError, match="does not stop"):
        session.close()
    assert not peer_lab.place.folder.exists()


async def test_a_peer_starts_in_an_empty_folder_with_its_own_environment_only(
    peer_lab: PeerLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of a run that was killed would be hits, and settings of the user's stand in no run.json."""
    monkeypatch.setattr(os, "environ", {**os.environ, "LMCACHE_REMOTE_URL": "fs://elsewhere", "UNRELATED": "kept"})
    peer_lab.place.folder.mkdir(parents=True)
    (peer_lab.place.folder / "stale.pt").write_bytes(b"k")
    peer = peer_lab.peer("lmcache:mode=layerwise")
    async with session_with_peer(SETTINGS, peer, open_store(peer_lab.store_url), peer_lab.home) as session:
        assert session.files() == []
        own = {name: value for name, value in os.environ.items() if name.startswith("LMCACHE_")}
        assert own == {name: value for name, value in peer.environment().items() if name.startswith("LMCACHE_")}
        assert (os.environ["PYTHONHASHSEED"], os.environ["UNRELATED"]) == ("0", "kept")
    assert not peer_lab.place.folder.exists()
    assert peer_lab.engine.closed == 1


async def test_its_servers_get_that_environment_too(peer_lab: PeerLab, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []

    @contextlib.contextmanager
    def servers() -> Iterator[None]:
        seen.append({name for name in os.environ if name.startswith("LMCACHE_") and name not in peer.environment()})
        yield

    monkeypatch.setattr(os, "environ", {**os.environ, "LMCACHE_LOG_LEVEL": "DEBUG", "LMCACHE_REDIS": "redis://127.0.0.1"})
    peer = peer_lab.peer("lmcache:backend=redis,url=$LMCACHE_REDIS")
    monkeypatch.setattr(peer, "servers", servers)
    async with session_with_peer(SETTINGS, peer, open_store(peer_lab.store_url), peer_lab.home):
        assert seen == [{"LMCACHE_REDIS"}]


async def test_a_peer_that_does_not_start_leaves_nothing(peer_lab: PeerLab, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(settings: EngineSettings, log: Path) -> None:
        (peer_lab.place.folder / "half.pt").write_bytes(b"k")
        raise SetupError("vLLM did not start")

    monkeypatch.setattr(peer_lab.engine, "start", fail)
    with pytest.raises(SetupError, match="did not start"):
        async with session_with_peer(SETTINGS, peer_lab.peer("example"), open_store(peer_lab.store_url), peer_lab.home):
            raise AssertionError("it has started")
    assert not peer_lab.place.folder.exists()


@pytest.mark.parametrize("arm", ["lmcache:mode=layerwise", "example"])
def test_a_whole_experiment_with_a_peer(peer_lab: PeerLab, arm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    peer_lab.engine.whole = arm == "example"
    run = peer_lab.measure(arm)
    assert (run.meta["status"], run.void_runs) == ("complete", {})
    assert run.meta["correctness"]["status"] == "passed"
    assert run.meta["peer"]["package"] == ("vllm" if arm == "example" else "lmcache")
    rows = run.requests
    assert len(rows) == 2 * 4
    assert (rows["hit_tokens"] == rows["expected_hit_tokens"]).all() and (rows["hit_tokens"] == 2 * CHUNK).all()
    assert rows[["lookup_s", "load_s", "stall_s", "compute_s", "kv_digest"]].isna().all(axis=None)
    assert peer_lab.left() == []
    settings = peer_lab.engine.settings
    assert settings is not None and settings.peer is not None
    assert settings.connector == {}  # ours is not there
    assert settings.peer["kv_load_failure_policy"] == "recompute"


def test_a_hit_that_is_not_what_the_workload_implies_is_void(peer_lab: PeerLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    (prompt, *_) = [prompt.tokens for prompt in peer_lab.setting("lmcache").data.prompts]

    def lose(asked: Asked) -> None:
        if asked.tokens == prompt:
            asked.hit = CHUNK

    peer_lab.engine.tamper = lose
    run = peer_lab.measure("lmcache", correctness_prompts=0)
    assert run.meta["status"] == "void"
    assert set(run.void_runs.values()) == {f"hit {CHUNK} tokens, but the workload implies {2 * CHUNK}"}
