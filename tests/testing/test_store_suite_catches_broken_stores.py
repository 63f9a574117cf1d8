"""The stateful test of stores finds what is wrong with these."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis.errors import HypothesisException

from harness.stores.base import Buffer, Read, open_store
from harness.stores.wrapper import Wrapper
from harness.testing.stores import any_sequence


class CountsPastAGap(Wrapper):
    def exists(self, keys: Sequence[str]) -> int:
        return sum(self.inner.exists([key]) for key in keys)


class DeletesOne(Wrapper):
    def delete(self, keys: Iterable[str]) -> None:
        self.inner.delete(list(keys)[:1])


class KeepsTheFirst(Wrapper):
    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        if not self.inner.exists([key]):
            self.inner.write(key, parts)


class IgnoresOffsets(Wrapper):
    def read(self, reads: Sequence[Read]) -> None:
        self.inner.read([Read(item.key, 0, item.out) for item in reads])


QUICK = settings(
    deadline=None, max_examples=100, stateful_step_count=15, derandomize=True, database=None, phases=[Phase.generate]
)


@pytest.mark.parametrize("broken", [CountsPastAGap, DeletesOne, KeepsTheFirst, IgnoresOffsets])
def test_a_broken_store_fails(tmp_path: Path, broken: type[Wrapper]) -> None:
    with (
        open_store(f"file://{tmp_path}/kv") as inner,
        pytest.raises((AssertionError, pytest.fail.Exception, HypothesisException)),
    ):
        any_sequence(broken(inner), QUICK)


def test_a_sound_one_passes(tmp_path: Path) -> None:
    with open_store(f"file://{tmp_path}/kv") as store:
        any_sequence(store, QUICK)
