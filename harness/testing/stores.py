"""The conformance suite of stores, for pytest.

    class TestMyStore(StoreTests):
        @pytest.fixture
        def url(self, tmp_path: Path) -> str:
            return f"mine://{tmp_path}/kv"

The URL has to name an empty store. Each test opens it, and some open it again in another process. The checks are those of
``ttft store check`` (harness/stores/_checks); here they use bare keys, and must leave nothing behind.
"""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.core.errors import UsageError
from harness.stores._checks import CHECKS, Check, NotApplicable, Scoped, fetch, pattern
from harness.stores.base import Store, check_store, open_store

__all__ = ["StoreTests", "fetch", "pattern"]

# A store is a fixture of the function, and one property serves all subclasses.
_PROPERTY = settings(
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)


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
