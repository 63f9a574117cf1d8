"""The checks of ``ttft store check``: each catches a store that breaks its promise, and none touches what is not its own."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from broken_stores import BROKEN, Refuses
from faithful import Faithful

from harness.core.errors import StoreError, StoreUnavailable
from harness.stores import open_store
from harness.stores._checks import CHECKS, Broken, Outcome, Scoped, examine, fresh_prefix, name_of
from harness.stores._checks.expecting import expect_error, fetch, same
from harness.stores.base import Buffer, Read, Store

BY_NAME = {name_of(check): check for check in CHECKS}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/kv"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as store:
        yield store


def test_every_check_has_a_store_that_it_catches() -> None:
    assert set(BROKEN) == set(BY_NAME)


@pytest.mark.parametrize(
    ("name", "broken"), [pytest.param(name, one, id=f"{one.__name__}-{name}") for name, some in BROKEN.items() for one in some]
)
def test_a_broken_store_is_caught_by_name(name: str, broken: Callable[[Store], Store], store: Store, url: str) -> None:
    [outcome] = examine(broken(store), url, "own-", (BY_NAME[name],))
    assert (outcome.name, outcome.verdict) == (name, "NO")
    assert outcome.reason and "\n" not in outcome.reason


def test_a_faithful_store_passes(store: Store, url: str) -> None:
    assert [outcome for outcome in examine(Faithful(store), url, "own-") if outcome.verdict != "ok"] == []


class Watching(Faithful):
    """Notes every key that it is asked about."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.seen: set[str] = set()

    def exists(self, keys: Sequence[str]) -> int:
        self.seen.update(keys)
        return super().exists(keys)

    def read(self, reads: Sequence[Read]) -> None:
        self.seen.update(item.key for item in reads)
        super().read(reads)

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        self.seen.add(key)
        super().write(key, parts)

    def delete(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        self.seen.update(keys)
        super().delete(keys)


def test_the_users_objects_are_not_touched(store: Store, url: str) -> None:
    theirs = {"busy": b"theirs", "whole": b"x" * 10, ".": b"dot", "a" * 32: b"a chunk"}
    store.write_many((key, [data]) for key, data in theirs.items())
    watching, prefix = Watching(store), fresh_prefix("check")
    outcomes = list(examine(watching, url, prefix))
    assert {outcome.verdict for outcome in outcomes} == {"ok"}
    assert all(key.startswith(prefix) for key in watching.seen)
    assert sorted(store.keys()) == sorted(theirs)
    assert {key: fetch(store, key, 0, len(data))[0] for key, data in theirs.items()} == theirs


def test_every_run_has_keys_of_its_own() -> None:
    assert fresh_prefix("check") != fresh_prefix("check")


class Interrupts(Faithful):
    """Ctrl-C in the middle of the n-th write, after the object is there."""

    def __init__(self, inner: Store, at: int) -> None:
        super().__init__(inner)
        self.left = at

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        super().write(key, parts)
        self.left -= 1
        if self.left == 0 and threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt


@pytest.mark.parametrize("at", [1, 5, 20])
def test_ctrl_c_leaves_nothing_behind(at: int, store: Store, url: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(examine(Interrupts(store, at), url, "own-"))
    assert list(store.keys()) == []


def test_a_failed_check_leaves_nothing_behind(store: Store, url: str) -> None:
    def fails(part: Scoped) -> None:
        part.write_many([("one", [b"1"]), ("two", [b"2"])])
        raise Broken("as meant")

    assert list(examine(store, url, "own-", (fails,))) == [Outcome("fails", "NO", "as meant")]
    assert list(store.keys()) == []


def test_a_store_that_takes_nothing_ends_it(store: Store, url: str) -> None:
    with pytest.raises(StoreUnavailable, match="full"):
        list(examine(Refuses(store), url, "own-"))


def test_what_cannot_be_deleted_is_said(store: Store, url: str) -> None:
    class Keeps(Faithful):
        def delete(self, keys: Iterable[str]) -> None:
            raise StoreUnavailable("no right to delete")

    with pytest.raises(StoreError, match="left behind, with keys that begin with own-0-: no right to delete"):
        list(examine(Keeps(store), url, "own-", CHECKS[:1]))


class Dies(Faithful):
    """Takes ``writes`` objects; from then on it is not there."""

    def __init__(self, inner: Store, writes: int) -> None:
        super().__init__(inner)
        self.left = writes

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        if self.left == 0:
            raise StoreUnavailable("the first error")
        self.left -= 1
        super().write(key, parts)

    def delete(self, keys: Iterable[str]) -> None:
        if self.left == 0:
            raise StoreUnavailable("nothing answers any more")
        super().delete(keys)


def test_the_first_error_is_told_and_not_that_of_cleaning_up(store: Store, url: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"^the first error$"):
        list(examine(Dies(store, 0), url, "own-"))
    told = []
    with pytest.raises(StoreError, match="left behind, with keys that begin with own-2-: nothing answers"):
        for outcome in examine(Dies(store, 3), url, "own-"):
            told.append(outcome.reason)
    assert told == ["", "", "the first error"]


def test_a_second_ctrl_c_says_what_is_left(store: Store, url: str) -> None:
    class Slow(Faithful):
        def delete(self, keys: Iterable[str]) -> None:
            raise KeyboardInterrupt

    with pytest.raises(StoreError, match="interrupted while deleting; objects are left behind, with keys that begin with own-0-"):
        list(examine(Slow(store), url, "own-", CHECKS[:1]))


def test_a_check_is_cleaned_up_before_its_outcome_is_told(store: Store, url: str) -> None:
    """Ctrl-C may come while it is printed."""
    for _ in examine(store, url, "own-"):
        assert list(store.keys()) == []


def test_reasons_hold_no_secret(store: Store) -> None:
    address = "redis://ann:hunter2@host/0?prefix=x"

    def fails(part: Scoped) -> None:
        raise ValueError(f"cannot parse {part.address}\nin line 1")

    [outcome] = examine(store, address, "own-", (fails,))
    assert outcome.reason == "ValueError: cannot parse redis://ann:***@host/0?prefix=x ..."


def test_the_first_wrong_byte_is_told() -> None:
    with pytest.raises(Broken, match="'key' was read wrongly: 2 of 5 bytes differ, the first at 1"):
        same(b"aXcXe", b"abcde", "key")


def test_an_error_of_another_kind_or_none_is_broken() -> None:
    def raises() -> None:
        raise KeyError("key")

    with pytest.raises(Broken, match="reading it should raise StoreUnavailable, but raised KeyError: 'key'"):
        expect_error(StoreUnavailable, "key", "reading it", raises)
    with pytest.raises(Broken, match="nothing was raised"):
        expect_error(StoreUnavailable, "key", "reading it", lambda: None)


def test_cleaning_up_takes_many_keys_in_several_calls(store: Store, url: str) -> None:
    part = Scoped(store, url, "own-")
    part.write_many((f"key-{number}", [b""]) for number in range(2500))
    part.clean()
    assert list(store.keys()) == []
