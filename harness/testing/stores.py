"""The conformance suite of stores, for pytest.

    class TestMyStore(StoreTests):
        @pytest.fixture
        def url(self, tmp_path: Path) -> str:
            return f"mine://{tmp_path}/kv"

The URL has to name an empty store. Each test opens it, and some open it again in another process. The checks are those of
``ttft store check`` (harness/stores/_checks); here they use bare keys, and must leave nothing behind.
"""

from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from harness.core.errors import ChunkMissing, ChunkTruncated, UsageError
from harness.stores._checks import CHECKS, Check, NotApplicable, Scoped, fetch, pattern
from harness.stores.base import Store, check_store, open_store

__all__ = ["StoreTests", "fetch", "pattern"]

# A store is a fixture of the function, and one property serves all subclasses.
_PROPERTY = settings(
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)


_SEQUENCES = settings(deadline=None, max_examples=20, stateful_step_count=15)
_KEYS = ("a", "a.l1", "b-0", "B_0", "bb")
_SOME_KEYS = st.lists(st.sampled_from(_KEYS), max_size=len(_KEYS))
_DATA = st.builds(pattern, st.integers(1, 6000), seed=st.integers(0, 9))


class StoreMachine(RuleBasedStateMachine):
    """Any sequence of calls, beside a dict of what has to be there."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store
        self._there: dict[str, bytes] = {}

    def _wrote(self, key: str, data: bytes) -> None:
        if self._store.replaces or key not in self._there:
            self._there[key] = data

    @rule(key=st.sampled_from(_KEYS), data=_DATA, cut=st.integers(0, 6000))
    def write(self, key: str, data: bytes, cut: int) -> None:
        """In two parts."""
        self._store.write(key, [data[:cut], memoryview(data)[cut:]])
        self._wrote(key, data)

    @rule(objects=st.dictionaries(st.sampled_from(_KEYS), _DATA))
    def write_many(self, objects: dict[str, bytes]) -> None:
        """By one call."""
        self._store.write_many((key, [data]) for key, data in objects.items())
        for key, data in objects.items():
            self._wrote(key, data)

    @rule(keys=_SOME_KEYS)
    def delete(self, keys: list[str]) -> None:
        """Whether or not they are there."""
        self._store.delete(keys)
        for key in keys:
            self._there.pop(key, None)

    @rule(keys=_SOME_KEYS)
    def exists(self, keys: list[str]) -> None:
        """Up to the first gap."""
        gap = next((place for place, key in enumerate(keys) if key not in self._there), len(keys))
        assert self._store.exists(keys) == gap

    @rule(key=st.sampled_from(_KEYS), offset=st.integers(0, 6000), length=st.integers(1, 6000))
    def read(self, key: str, offset: int, length: int) -> None:
        """Any range, also beyond the end."""
        data = self._there.get(key)
        if data is None:
            with pytest.raises(ChunkMissing):
                fetch(self._store, key, offset, length)
        elif offset + length > len(data):
            with pytest.raises(ChunkTruncated):
                fetch(self._store, key, offset, length)
        else:
            assert fetch(self._store, key, offset, length) == [data[offset : offset + length]]

    @invariant()
    def nothing_else_is_there(self) -> None:
        """The keys are those of the dict, and so are the sizes, where the store tells them."""
        assert sorted(self._store.keys()) == sorted(self._there)
        with suppress(NotImplementedError):
            assert {key: self._store.size(key) for key in self._there} == {key: len(data) for key, data in self._there.items()}

    def teardown(self) -> None:
        """Empty it for the next sequence."""
        self._store.delete(_KEYS)


def any_sequence(store: Store, how: settings = _SEQUENCES) -> None:
    """Run the machine over an empty store. Raises what its asserts raise."""

    class Machine(StoreMachine):
        def __init__(self) -> None:
            super().__init__(store)

    run_state_machine_as_test(Machine, settings=how)


class StoreTests:
    """What every store promises. Subclass it with a fixture ``url``."""

    @pytest.fixture
    def url(self) -> str:
        """The URL of an empty store. Override it."""
        raise NotImplementedError("a subclass of StoreTests needs a fixture 'url'")

    @pytest.fixture
    def store(self, url: str) -> Iterator[Store]:
        """The store, open for one test; emptied after it."""
        with open_store(url) as store:
            yield store
            store.delete(list(store.keys()))

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_conforms(self, store: Store, url: str, check: Check) -> None:
        """One promise of the contract; and what the check wrote is all that there was."""
        part = Scoped(store, url)
        try:
            check(part)
        except NotApplicable as reason:
            pytest.skip(str(reason))
        finally:
            part.clean()
        assert list(store.keys()) == []

    def test_its_url_can_be_checked_without_opening_it(self, url: str) -> None:
        """What is right passes; an option that there is not is named, with those that there are."""
        check_store(url)
        more = f"{url}{'&' if '?' in url else '?'}no_such_option=1"
        with pytest.raises(UsageError, match="no_such_option"):
            check_store(more)

    @_PROPERTY
    @given(size=st.integers(1, 20_000), draw=st.data())
    def test_any_range_into_any_buffers(self, store: Store, size: int, draw: st.DataObject) -> None:
        """Whatever the range and however it is cut."""
        begin, end = sorted(draw.draw(st.lists(st.integers(0, size), min_size=2, max_size=2), label="range"))
        cuts = draw.draw(st.lists(st.integers(begin, end), max_size=8), label="cuts")
        edges = [begin, *sorted(cuts), end]
        data = pattern(size, seed=size)
        store.delete(["any"])  # of the example before, where ``replaces`` is false
        store.write("any", [data])
        got = fetch(store, "any", begin, *(after - before for before, after in pairwise(edges)))
        assert b"".join(got) == data[begin:end]

    def test_any_sequence_of_calls(self, store: Store) -> None:
        """Gives what a dict would give."""
        any_sequence(store)
