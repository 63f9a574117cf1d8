"""What a server tells of itself: behind its key, and from its own folder."""

import asyncio
import json
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import RunError
from harness.replay.server.about import PATH, SPAN_LOG, VARIABLE, About, Announce, parse, read

ABOUT = About(store="mem://x", arms=["floor"], chunk_tokens=256, max_model_len=512)


def get(path: str, status: int, method: str = "GET") -> tuple[int, bytes]:
    """Ask through the middleware; the server behind it answers ``status``."""

    async def behind(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"the server's own"})

    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request"}

    asyncio.run(Announce(behind)({"type": "http", "path": path, "method": method}, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    ABOUT.model_copy(update={"folder": str(tmp_path)}).write(tmp_path)
    return tmp_path


def test_it_tells_what_was_written_and_how_the_trace_begins(folder: Path) -> None:
    (folder / SPAN_LOG).mkdir()
    (folder / SPAN_LOG / "worker-0.jsonl").write_text('{"kind": "start", "blocks": 7}\n{"kind": "save"}\n')
    status, body = get(PATH, 404)
    about = parse(json.loads(body))
    assert (status, about.id, about.start) == (200, ABOUT.id, {"kind": "start", "blocks": 7})
    assert about.here and about.span_log == folder / SPAN_LOG


def test_before_the_trace_begins_it_tells_none() -> None:
    assert parse(json.loads(get(PATH, 404)[1])).start == {}


def test_a_refused_key_is_refused_here_too() -> None:
    assert get(PATH, 401) == (401, b"the server's own")


@pytest.mark.parametrize(("path", "method"), [("/v1/models", "GET"), ("/v1/ttft/more", "GET"), (PATH, "POST")])
def test_everything_else_is_the_server_s(path: str, method: str) -> None:
    assert get(path, 404, method) == (404, b"the server's own")


def test_a_folder_of_another_server_is_not_here(folder: Path) -> None:
    assert read(folder).here
    other = read(folder).model_copy(update={"id": "another"})
    assert not other.here
    assert not other.model_copy(update={"folder": "/nowhere"}).here


def test_what_cannot_be_read_is_one_sentence(folder: Path) -> None:
    (folder / "served.json").write_text("{")
    with pytest.raises(RunError, match=r"served\.json is not JSON"):
        read(folder)
    with pytest.raises(RunError, match=r"cannot be read \(arms: Input should be a valid list\); serve with this version of ttft"):
        parse({**ABOUT.model_dump(), "arms": 3})


GEOMETRY = {"layers": 2, "block_tokens": 16, "block_bytes": 64, "chunk_blocks": 1, "dtype": "float32"}
IDENTITY = {"model": "m", "dtype": "float32", "world": 1, "kv_layout": "LBHNC"}


def test_what_a_server_tells_is_flat_and_what_it_must_be_before_anybody_computes_with_it() -> None:
    """It goes into run.json: one nested value more than a reader takes, and the whole measurement could not be read again."""
    start: dict[str, Any] = {"kind": "start", "geometry": GEOMETRY, "identity": IDENTITY, "window": 0, "engine": {"eager": True}}
    told: dict[str, Any] = {**ABOUT.model_dump(), "start": start, "machine": {"cores": 2}, "binding": {"OMP_NUM_THREADS": "2"}}
    assert parse(told).start == start
    wrong: list[dict[str, Any]] = [{name: {"a": {"b": 1}}} for name in ("machine", "binding", "versions")]
    starts: list[dict[str, Any]] = [
        {"identity": "m"}, {"identity": {}}, {"identity": {**IDENTITY, "world": 10**12}}, {"identity": {**IDENTITY, "more": [1]}},
        {"geometry": None}, {"geometry": {**GEOMETRY, "layers": "2"}}, {"geometry": {"layers": 2}}, {"window": "0"},
        {"engine": "vllm"}, {"engine": {"a": {}}}, {"torch_threads": [2]}, {"save_threads": "1"}, {"direct": [1]},
    ]  # fmt: skip
    for change in [*wrong, *({"start": {**start, **one}} for one in starts)]:
        with pytest.raises(RunError, match=r"the server's /v1/ttft cannot be read \("):
            parse({**told, **change})
