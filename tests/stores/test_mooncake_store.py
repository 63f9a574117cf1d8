"""``mooncake://`` against a real master and storage client: the conformance suite, and what it does not ask."""

from collections.abc import Iterator

import pytest
from mooncake_running import Cluster, cluster

from harness.stores import open_store
from harness.stores.base import Store
from harness.testing.stores import StoreTests

__all__ = ["cluster"]

Opened = tuple[str, Store]


@pytest.fixture(scope="module")
def opened(cluster: Cluster) -> Iterator[Opened]:
    """A store and its URL for all tests: closing takes a second, since Mooncake waits for a thread that pings the master."""
    url = cluster.fresh("&buffer_mb=16")
    with open_store(url) as store:
        yield url, store


@pytest.fixture
def store(opened: Opened) -> Iterator[Store]:
    _, store = opened
    yield store
    store.delete(list(store.keys()))


class TestMooncake(StoreTests):
    @pytest.fixture
    def url(self, opened: Opened) -> str:
        return opened[0]

    @pytest.fixture
    def store(self, store: Store) -> Store:
        return store
