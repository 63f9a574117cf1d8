"""The engine of examples/own_engine passes the suite that every engine passes, and is late by what it was told."""

import time
from pathlib import Path

import pytest
from own_engine import Delayed

from harness.core.options import parse_options
from harness.testing.engines import EngineTests

PACKAGE = Path(__file__).resolve().parents[2] / "examples" / "own_engine"


class TestDelayed(EngineTests):
    engine = Delayed
    options = {"delay_ms": 0}


def test_it_waits_before_a_load_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr("harness.engines.layerwise.Layerwise.begin_load", lambda self, batch: None)
    engine = Delayed.__new__(Delayed)
    engine._delay_s = 0.25
    engine.begin_load([])
    assert slept == []
    engine.begin_load([None])  # type: ignore[list-item]
    assert slept == [0.25]


def test_its_options_are_those_of_layerwise_and_one_more() -> None:
    options = parse_options(Delayed.Options, {"depth": "2", "delay_ms": "5"}, "engine 'delayed'")
    assert (options.depth, options.delay_ms) == (2, 5.0)


def test_the_package_announces_it() -> None:
    import tomllib

    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["ttft.engines"] == {Delayed.name: f"{Delayed.__module__}:{Delayed.__name__}"}
