"""Finding implementations: one file adds one, and nothing else has to change."""

import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from harness.core import registry
from harness.core.errors import SetupError, UsageError
from harness.core.registry import Registry

BASE = """
from abc import ABC, abstractmethod
class Gadget(ABC):
    name = ""
    @abstractmethod
    def work(self): ...
"""
ONE = """
from gadgets.base import Gadget
class Half(Gadget):
    name = "half"              # abstract, so not offered
class Nameless(Gadget):
    def work(self): ...
class One(Gadget):
    name = "one"
    def work(self): ...
"""
TWO = """
from gadgets.one import One    # imported, so not this file's
class Two(One):
    name = "two"
class Variant(One): ...        # no name of its own
"""


class Gadget(ABC):
    """Stands for the base class in signatures; the real one is made below."""

    name = ""

    @abstractmethod
    def work(self) -> None: ...


@pytest.fixture
def gadgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry[Gadget]]:
    """A registry over a package made for the test."""
    folder = tmp_path / "gadgets"
    folder.mkdir()
    for name, text in {"__init__": "", "base": BASE, "one": ONE, "two": TWO}.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    from importlib import import_module

    yield Registry("gadget", "gadgets", import_module("gadgets.base").Gadget)
    for name in [name for name in sys.modules if name.partition(".")[0] == "gadgets"]:
        del sys.modules[name]


def announce(monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str]) -> None:
    """Pretend that installed packages have these entry points."""

    def entry_points(group: str) -> EntryPoints:
        return EntryPoints(EntryPoint(name, value, "ttft.gadgets") for name, value in points).select(group=group)

    monkeypatch.setattr(registry, "entry_points", entry_points)


def test_every_file_is_found_and_only_whole_named_classes_of_its_own(gadgets: Registry[Gadget]) -> None:
    assert sorted(gadgets.all()) == ["one", "two"]
    assert gadgets.get("two").__name__ == "Two"


def test_a_new_file_needs_no_other_change(gadgets: Registry[Gadget], tmp_path: Path) -> None:
    (tmp_path / "gadgets" / "three.py").write_text(ONE.replace('"one"', '"three"'))
    importlib.invalidate_caches()
    assert sorted(gadgets.all()) == ["one", "three", "two"]


def test_an_unknown_name_lists_the_known(gadgets: Registry[Gadget]) -> None:
    with pytest.raises(UsageError, match=r"unknown gadget 'three'.*known: one, two"):
        gadgets.get("three")


def test_packages_join_by_entry_point_but_do_not_replace_ours(gadgets: Registry[Gadget], monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, ("theirs", "gadgets.two:Two"), ("one", "gadgets.two:Two"))
    assert gadgets.get("theirs").__name__ == "Two"
    assert gadgets.get("one").__name__ == "One"


@pytest.mark.parametrize("value", ["no_such_module:Thing", "gadgets.one:NoSuchThing"])
def test_a_broken_package_is_named(gadgets: Registry[Gadget], monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    announce(monkeypatch, ("theirs", value))
    with pytest.raises(SetupError, match=f"the gadget 'theirs' of package {value} does not import"):
        gadgets.all()


def test_the_shipped_folders_hold_what_they_promise() -> None:
    from harness.engines import ENGINES
    from harness.stores import STORES
    from harness.workloads import WORKLOADS

    assert {"chunkwise", "layerwise", "recompute", "floor"} <= set(ENGINES.all())
    assert {"file", "mem", "shaped"} <= set(STORES.all())
    assert {"shared_prefix", "multi_turn", "long_doc", "mooncake", "jsonl"} <= set(WORKLOADS.all())


def test_one_that_lacks_a_method_says_which(gadgets: Registry[Gadget]) -> None:
    with pytest.raises(SetupError, match=r"the gadget 'half' in gadgets\.one lacks work; gadgets\.base says what each has to do"):
        gadgets.get("half")
