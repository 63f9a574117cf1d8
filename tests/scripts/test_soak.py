"""``make soak``, as far as it can be told without a server: what counts as growing, what is damaged, and what it prints."""

import random
import socket
from types import SimpleNamespace
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import soak
from soak import MOST_CONNECTIONS, Seen, damage, grows, growth, look, table


def test_the_first_quarter_warms_up() -> None:
    assert growth([900, 900, 10, 12, 50, 50, 11, 13]) == (11, 12)
    assert growth([5]) == (5, 5)


@pytest.mark.parametrize(
    ("kind", "before", "after", "bad"),
    [
        ("descriptors", 40, 48, False),
        ("descriptors", 40, 49, True),
        ("threads", 100, 110, False),
        ("threads", 10, 15, True),
        ("MiB", 1000, 1029, False),
        ("MiB", 1000, 1031, True),
        ("MiB", 100, 90, False),
    ],
)
def test_what_grows(kind: str, before: float, after: float, bad: bool) -> None:
    assert grows(kind, before, after) is bad


def test_the_table_names_what_grows_differs_or_fails() -> None:
    seen = Seen(held={"0 api": {"threads": [1, 10, 10, 30], "MiB": [1, 500, 500, 501]}})
    seen.wrong += ["prompt 3 by layerwise gave (1,), computed it is (2,)"] * 2
    seen.errors["the server answered 500"] = 4
    rows, faults = table(seen)
    assert faults == [
        "prompt 3 by layerwise gave (1,), computed it is (2,) (2 answers in all)",
        "4 requests failed: the server answered 500",
        "threads of 0 api grew from 10 to 30",
    ]
    assert [line.split()[-1] for line in rows.splitlines()] == ["after", "many", "501"]
    assert table(Seen(held={"0 api": {"threads": [10, 10]}}))[1] == []


def test_pools_may_fill_and_a_leak_is_more_than_they_hold() -> None:
    fills = [float(number) for number in range(1, MOST_CONNECTIONS + 1)]
    leaks = [1.0] * 40 + [MOST_CONNECTIONS + 1.0] + [1.0] * 40
    assert table(Seen(held={"2 worker": {"connections": fills}}))[1] == []
    assert table(Seen(held={"2 worker": {"connections": leaks}}))[1] == [
        f"2 worker had {MOST_CONNECTIONS + 1} connections to the store, its pools may hold {MOST_CONNECTIONS}"
    ]


def test_what_is_seen_of_a_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        seen, process = Seen(), psutil.Process()
        look(process, port, seen)
        with socket.create_connection(("127.0.0.1", port)):
            look(process, port, seen)
    [held] = [held for name, held in seen.held.items() if name.startswith("0 ")]
    assert held["connections"] == [0, 1] and len(held["threads"]) == 2
    assert held["descriptors"][0] == held["descriptors"][1] > 2


def test_damage_hits_a_share_and_one_at_least() -> None:
    objects = {f"key {number}".encode(): bytes(100) for number in range(300)}

    def put(key: bytes, data: bytes, xx: bool) -> None:
        assert xx and key in objects
        objects[key] = data

    rng = random.Random(0)
    store: Any = SimpleNamespace(
        dbsize=lambda: len(objects), randomkey=lambda: rng.choice(list(objects)), get=objects.get, set=put, delete=objects.pop
    )
    for share, least, most in ((0.1, 25, 30), (0.0001, 1, 1)):
        before = dict(objects)
        assert least <= damage(store, share, random.Random(1)) <= most
        changed = [key for key, data in before.items() if objects.get(key) != data]
        assert least <= len(changed) <= most


def test_without_redis_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    monkeypatch.setattr("shutil.which", lambda program: None)
    assert soak.main(["--out", str(tmp_path)]) == 2
    assert "redis-server is not installed" in capsys.readouterr().err


def test_prompts_share_whole_chunks() -> None:
    prompts = soak.prompts()
    assert len({tuple(prompt) for prompt in prompts}) == len(prompts) == soak.HEADS * soak.TAILS
    assert len({tuple(prompt[: 3 * soak.CHUNK]) for prompt in prompts}) == soak.HEADS
