"""Several experiments in one start of vLLM: nothing of one reaches the next."""

import asyncio
from pathlib import Path

import pytest
from fake_engine import CHUNKWISE, LAYERWISE, Lab, Served, lab

from harness.core.errors import StoreError
from harness.experiment.hooks import Hooks
from harness.experiment.sweep.sharing import SharedVllm, measure_sharing
from harness.results import Measurement, load

__all__ = ["lab"]


async def carry_out(lab: Lab, host: SharedVllm, name: str, **changes: object) -> Measurement:
    await measure_sharing(lab.setting(**changes), lab.home / name, "ttft sweep", Hooks(), host)
    return load(lab.home / name)


async def test_an_experiment_that_would_start_vllm_in_the_same_way_gets_the_one_that_is_up(lab: Lab) -> None:
    with lab.open() as store:
        host = SharedVllm(lab.home / "start", store)
        first = await carry_out(lab, host, "a")
        second = await carry_out(lab, host, "b", concurrency=2)
        assert len(lab.vllm.engines) == 1 and host.running
        assert set(store.keys()) == set(), "each deletes its chunks before the next begins"
        host.close()
    assert not host.running and lab.vllm.engines[0].closed
    alone = await asyncio.to_thread(lab.measure)
    for run in (first, second):
        assert run.meta["status"] == "complete"
        assert len(run.counted) == len(alone.counted)
        assert run.counted["hit_tokens"].tolist() == alone.counted["hit_tokens"].tolist()
        assert run.counted.groupby("arm")["bytes"].sum().to_dict() == alone.counted.groupby("arm")["bytes"].sum().to_dict()
        assert len(run.spans) == len(alone.spans)
    assert (lab.home / "start" / "span_log").exists() and not (lab.home / "a" / "span_log").exists()


async def test_another_way_of_starting_is_another_start(lab: Lab) -> None:
    with lab.open() as store:
        host = SharedVllm(lab.home / "start", store)
        await carry_out(lab, host, "a")
        await carry_out(lab, host, "b", arms=[CHUNKWISE, "layerwise:depth=1"])
        host.close()
    assert [engine.closed for engine in lab.vllm.engines] == [True, True]


@pytest.mark.parametrize("how", ["void", "failed"])
async def test_whatever_went_wrong_is_not_inherited(lab: Lab, how: str) -> None:
    def spoil(served: Served) -> None:
        if served.label == "0/3":
            if how == "void":
                served.cached_tokens = 0
            else:
                with lab.open() as mine:
                    mine.delete(list(mine.keys()))

    lab.vllm.tamper = spoil
    with lab.open() as store:
        host = SharedVllm(lab.home / "start", store)
        if how == "void":
            assert (await carry_out(lab, host, "a")).meta["status"] == "void"
        else:
            with pytest.raises(StoreError):
                await carry_out(lab, host, "a")
            assert load(lab.home / "a").meta["status"] == "partial"
        assert not host.running and lab.vllm.engines[0].closed
        lab.vllm.tamper = lambda served: None
        assert (await carry_out(lab, host, "b")).meta["status"] == "complete"
        host.close()
    assert len(lab.vllm.engines) == 2
    assert lab.left() == set()


async def test_chunks_that_shall_stay_are_left_by_the_next_one(lab: Lab) -> None:
    with lab.open() as store:
        host = SharedVllm(lab.home / "start", store)
        await carry_out(lab, host, "a", keep_store=True)
        kept = set(store.keys())
        await carry_out(lab, host, "b")
        host.close()
        assert kept and set(store.keys()) == kept


async def test_unread_traces_of_one_are_no_proof_for_the_next(lab: Lab) -> None:
    """The labels of two experiments are the same: a load that nobody asked about must not stand in for a missing one."""

    def mute(served: Served) -> None:
        if served.label == "1/0" and served.arm == LAYERWISE and len(lab.vllm.timed) > 44:
            served.loads = False

    lab.vllm.tamper = mute
    with lab.open() as store:
        host = SharedVllm(lab.home / "start", store)
        await carry_out(lab, host, "a")
        log = Path(lab.home / "start" / "span_log" / "worker-0.jsonl")
        text = log.read_text()
        late = next(line for line in text.splitlines(keepends=True) if '"label": "1/0"' in line and '"kind": "load"' in line)
        log.write_text(text + late)
        assert host._session is not None
        host._session.hand_over()
        second = await carry_out(lab, host, "b")
        host.close()
    assert 1 in second.void_runs, "run 1 loaded nothing, whatever the span log of the first experiment says"
