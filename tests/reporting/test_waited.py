"""The wait for a load between steps is told apart from vLLM's queue, of which it is a part."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.reporting.explain import Cause, Change, explain
from harness.reporting.figures import parts
from harness.reporting.grids import means
from harness.reporting.summary import summarise
from harness.reporting.waited import waited_s
from harness.results import load
from harness.results.evidence import Evidence, gather
from harness.testing.runs import write_synthetic_run

ARMS = ["chunkwise:pool=8", "deferred", "floor"]


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    """Where chunkwise waits within its step, and deferred just as long before it."""
    run = load(write_synthetic_run(tmp_path / "run", ARMS, 6, 12))
    rows = run.requests.copy()
    mine = rows["arm"] == "deferred"
    rows.loc[mine, "queue_s"] += rows.loc[mine, "stall_s"]
    rows.loc[mine, "stall_s"] = 0.0
    return gather(replace(run, requests=rows))


def test_the_wait_is_told_of_such_engines_only(evidence: Evidence) -> None:
    chunkwise, deferred, floor = evidence.arms
    assert waited_s(evidence, chunkwise, evidence.of(chunkwise)) == waited_s(evidence, floor, evidence.of(floor)) == 0
    rows = evidence.of(deferred)
    assert waited_s(evidence, deferred, rows) == pytest.approx((rows["queue_s"] - 0.002).mean(), rel=0.05)
    assert waited_s(evidence, deferred, rows.assign(queue_s=0.001)) == pytest.approx(0.001), "more than the queue it can't be"


def test_the_table_of_means_says_what_the_queue_contains(evidence: Evidence, tmp_path: Path) -> None:
    caption = means(summarise(evidence)).caption
    assert caption == "Means per request; the queue of deferred contains the wait for loads between steps"
    write_synthetic_run(tmp_path / "others", ["chunkwise:pool=8", "floor"])
    assert means(summarise(gather(load(tmp_path / "others")))).caption == "Means per request"


def test_the_picture_shows_it_as_a_part_of_its_own(evidence: Evidence) -> None:
    splits = {arm.name: found for arm, found in parts.splits_of(evidence).items()}
    name = parts.BETWEEN.name
    assert splits["deferred"][name] == pytest.approx(splits["chunkwise:pool=8"]["stall: the forward waits for loads"], rel=0.1)
    assert splits["deferred"]["queue"] == pytest.approx(splits["chunkwise:pool=8"]["queue"], abs=0.002)
    assert splits["chunkwise:pool=8"][name] == splits["floor"][name] == 0
    picture = parts.draw(evidence)
    assert picture is not None
    legend = picture.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()].count(name) == 1


def test_nobody_is_told_to_send_fewer_requests_because_of_it(evidence: Evidence) -> None:
    [found] = [one for one in explain(evidence) if one.parts.arm.name == "deferred"]
    assert found.parts.bottleneck is not Cause.QUEUE
    assert found.remedy.change is not Change.TRAFFIC
