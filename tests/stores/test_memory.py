"""``mem://``: the conformance suite, names, and machines without shared memory."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from harness.core.errors import StoreUnavailable, UsageError
from harness.stores import open_store
from harness.stores.files.memory import MemoryStore
from harness.testing.stores import StoreTests, pattern

pytestmark = pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="this machine has no /dev/shm")


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test-{uuid4().hex}"
    yield name
    place = MemoryStore.shared_memory / f"ttft-{name}"
    if place.exists():
        with open_store(f"mem://{name}") as store:
            store.delete(list(store.keys()))
        place.rmdir()


class TestMemoryStore(StoreTests):
    @pytest.fixture
    def url(self, name: str) -> str:
        return f"mem://{name}"


def test_objects_lie_in_shared_memory_under_the_name(name: str) -> None:
    with open_store(f"mem://{name}") as store:
        store.write("key", [b"data"])
    assert (MemoryStore.shared_memory / f"ttft-{name}/ke/key.kv").read_bytes() == b"data"


def test_names_keep_their_case(name: str) -> None:
    with open_store(f"mem://{name}") as lower, open_store(f"mem://{name.upper()}") as upper:
        assert isinstance(lower, MemoryStore)
        assert isinstance(upper, MemoryStore)
        assert lower.root != upper.root
        upper.root.rmdir()


def test_memory_is_always_warm_and_cannot_be_evicted(name: str) -> None:
    with open_store(f"mem://{name}") as store:
        store.write("key", [pattern(100_000)])
        assert store.evict_from_os_cache(["key"]) is False
        assert store.cached_fraction(["key"]) in (1.0, None)


@pytest.mark.parametrize(
    "url", ["mem://", "mem:///kv", "mem://a/b", "mem://a_b", "mem://a%2Fb", "mem://a#b", "mem://" + 101 * "a"]
)
def test_bad_names_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"names no memory store; write mem://name"):
        open_store(url)


def test_options_of_disks_are_unknown(name: str) -> None:
    with pytest.raises(UsageError, match="unknown option of store 'mem' 'direct'; known: none"):
        open_store(f"mem://{name}?direct=1")


def test_machine_without_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryStore, "shared_memory", tmp_path / "absent")
    with pytest.raises(StoreUnavailable, match=r"absent, which is not here; use file:///path instead"):
        open_store("mem://kv")
