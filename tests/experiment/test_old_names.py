"""A store's options under the names that they had before: understood everywhere, said once, and the same store."""

from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.core.renamed import store_note, store_today
from harness.experiment.dotted import experiment_of
from harness.experiment.plan import settle
from harness.experiment.sweep.axes import parse_axes
from harness.experiment.sweep.grid import grid_of
from harness.results.conditions import differences, misfit
from harness.stores import open_store

OLD = "shaped+mem://kv?latency_ms=2&stream_mbps=300&total_mbps=900"
NEW = "shaped+mem://kv?latency_ms=2&stream_mb_s=300&total_mb_s=900"
SMALL = {"workload": "shared_prefix:groups=2,prompts=4,prefix=512,suffix=32", "model": "builtin:layers=2"}


def test_an_old_name_is_understood_and_said_once() -> None:
    setting = settle(experiment_of(SMALL, {"store": OLD}))
    assert setting.experiment.store == NEW
    said = [note for note in setting.notes if "mbps" in note]
    assert said == [
        "The store's stream_mbps is called stream_mb_s and total_mbps is called total_mb_s now, "
        "since it counts megabytes a second."
    ]
    assert not any("mbps" in note for note in settle(experiment_of(SMALL, {"store": NEW})).notes)


def test_a_store_opened_by_its_old_names_is_as_fast() -> None:
    old, new = (open_store(url) for url in (OLD, NEW))
    assert old.options == new.options
    old.close()
    new.close()


@pytest.mark.parametrize("given", ["stream_mbps", "stream_mb_s"])
@pytest.mark.parametrize("url", [OLD, NEW])
def test_one_option_replaces_itself_by_either_name(url: str, given: str) -> None:
    experiment = experiment_of(SMALL, {"store": url}, {f"store.{given}": "50"})
    assert settle(experiment).experiment.store == NEW.replace("300", "50")


@pytest.mark.parametrize("given", ["stream_mbps", "stream_mb_s"])
def test_either_name_can_be_varied(given: str) -> None:
    grid = grid_of(experiment_of(SMALL, {"store": OLD}), parse_axes([f"store.{given}=50,100"]))
    assert [settle(point.experiment).experiment.store for point in grid.points] == [NEW.replace("300", n) for n in ("50", "100")]


def test_both_names_at_once_are_refused() -> None:
    with pytest.raises(UsageError, match="option 'stream_mb_s' is listed twice"):
        settle(experiment_of(SMALL, {"store": f"{OLD}&stream_mb_s=3"}))


def test_a_measurement_under_the_old_name_is_of_the_same_store() -> None:
    ours, theirs = ({"config": {"store": url}} for url in (OLD, NEW))
    assert differences(ours, theirs) == [] and misfit(ours, theirs) is None
    assert differences(ours, {"config": {"store": NEW.replace("300", "301")}}) != []


def test_only_shaped_stores_had_these_names(tmp_path: Path) -> None:
    for url in (f"file://{tmp_path}?stream_mbps=3", "mem://kv", "mem://kv?stream_mbps", NEW):
        assert store_today(url) == url and store_note(url) == ""
