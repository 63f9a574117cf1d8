"""Loads between steps through the class that vLLM sees."""

from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed; make test installs it")

from standins import make_output, make_request
from vllm_classes import BLOCK, make, worker  # noqa: F401  a fixture among them

from harness.connector.step import Note, Step
from harness.connector.vllm_connector import StepMetadata, TTFTConnector
from harness.experiment.span_log import SpanLogReader

pytestmark = pytest.mark.filterwarnings("default")


def test_a_load_between_steps_goes_through_the_class(worker: TTFTConnector, tmp_path: Path) -> None:
    """From the scheduler's question to the worker's answer, with a failure, since the store lost the chunk meanwhile."""
    scheduler, told = make(tmp_path, "SCHEDULER"), worker.get_handshake_metadata()
    assert told is not None
    scheduler.set_xfer_handshake_metadata({0: told})
    request = make_request("r", list(range(3 * BLOCK)), {"arm": "deferred"})
    scheduler._side._store.exists = lambda keys: len(keys)  # type: ignore[method-assign]
    assert scheduler.get_num_new_matched_tokens(request, 0) == (2 * BLOCK, True)
    scheduler.update_state_after_alloc(request, SimpleNamespace(get_block_ids=lambda: ([3, 4],)), 2 * BLOCK)
    worker.bind_connector_metadata(scheduler.build_connector_meta(make_output()))
    worker._worker.release([3])  # type: ignore[union-attr]
    worker.wait_for_save()
    assert worker.get_finished(set()) == (None, {"r"})
    assert worker.get_block_ids_with_load_errors() == {3, 4}
    assert worker.get_finished({"r"}) == (None, None)
    scheduler.update_connector_output(SimpleNamespace(invalid_block_ids={3, 4}, kv_connector_worker_meta=None))
    assert scheduler.get_num_new_matched_tokens(request, 0) == (0, False)
    assert scheduler.request_finished(request, []) == (False, None)


def test_a_step_of_no_tokens_does_its_work_also_where_vllm_does_not_end_it(worker: TTFTConnector, tmp_path: Path) -> None:
    """Up to 0.29 wait_for_save is not called in such a step, which loads between steps bring about."""
    worker.bind_connector_metadata(StepMetadata(Step(notes=[Note("x", 0.0, 1.0, 16, 16)])))
    assert worker.get_finished(set()) == (None, None)
    reader = SpanLogReader(tmp_path)
    reader.poll()
    assert reader.lookup("x") is not None
