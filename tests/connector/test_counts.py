"""What the connector counts, from both halves to /metrics."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed; make test installs it")

import prometheus_client
from standins import make_request
from vllm_classes import BLOCK, make, vllm_config, worker  # noqa: F401  a fixture

from harness.connector.counts import Counts
from harness.connector.settings import parse_arm
from harness.connector.step import Load, Step
from harness.connector.vllm_connector import StepMetadata, TTFTConnector
from harness.core.chunks import LoadRequest
from harness.core.errors import StoreUnavailable
from harness.experiment.cache_state import hit_by
from harness.experiment.rows import hit_reason
from harness.replay.prometheus import CHOICES, FAILED_BLOCKS, samples
from harness.stores.base import Read

pytestmark = pytest.mark.filterwarnings("default")


def test_what_failed_adds_up_over_ranks_and_shows_at_metrics(tmp_path: Path) -> None:
    registry = prometheus_client.CollectorRegistry()

    def counter(**told: Any) -> prometheus_client.Counter:
        return prometheus_client.Counter(**told, registry=registry)

    def gauge(**told: Any) -> prometheus_client.Gauge:
        return prometheus_client.Gauge(**told, registry=registry)

    kinds = {prometheus_client.Gauge: gauge, prometheus_client.Counter: counter, prometheus_client.Histogram: counter}
    metric = TTFTConnector.build_prom_metrics(vllm_config(tmp_path), kinds, ["engine"], {0: ["0"]})

    def shown() -> list[object]:
        text = prometheus_client.generate_latest(registry).decode()
        return [row["value"] for row in samples(text, 0.0) if row["name"] == FAILED_BLOCKS]

    assert shown() == [0.0], "a client can tell none from not counted"
    both = Counts(data={"failed_blocks": 2}).aggregate(TTFTConnector.build_kv_connector_stats({"failed_blocks": 3}))
    metric.observe(both.data, 0)
    assert shown() == [5.0]
    for changes, skipping in (({"store_skips": 2, "store_skipping": 2}, 2.0), ({"store_skipping": -1}, 1.0)):
        metric.observe(changes, 0)
        assert registry.get_sample_value("vllm:ttft_store_skips_total", {"engine": "0"}) == 2.0
        assert registry.get_sample_value("vllm:ttft_store_skipping", {"engine": "0"}) == skipping
    told = [
        Counts.of({}, {("auto", "hybrid"): 2}),
        Counts.of({"failed_blocks": 1}, {("auto", "hybrid"): 1, ("auto", "chunkwise"): 4}),
    ]
    assert told[0] is not None and told[1] is not None
    metric.observe(told[0].aggregate(told[1]).data, 0)
    assert shown() == [6.0]
    choices = samples(prometheus_client.generate_latest(registry).decode(), 0.0)
    by_way = {row["labels"]: row["value"] for row in choices if row["name"] == CHOICES}
    assert by_way == {"arm=auto,engine=0,how=hybrid": 3.0, "arm=auto,engine=0,how=chunkwise": 4.0}


def test_lookups_of_a_store_that_keeps_failing_are_misses_at_once_and_void_in_a_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make(tmp_path, "SCHEDULER")
    store, asked = one._side._store, []

    def fail(keys: Sequence[str]) -> int:
        asked.append(keys)
        raise StoreUnavailable("no answer")

    monkeypatch.setattr(store.inner, "exists", fail)  # type: ignore[attr-defined]
    tokens = list(range(5 * BLOCK))
    hits = [one.get_num_new_matched_tokens(make_request(str(number), tokens), 0) for number in range(10)]
    assert (hits, len(asked)) == ([(0, False)] * 10, 3)
    assert (stats := one.get_kv_connector_stats()) and stats.data == {"store_skips": 1, "store_skipping": 1}
    assert one.get_kv_connector_stats() is None
    for arm in ("layerwise", "hybrid:k=cost"):  # the second may take less than there is, but not nothing
        expected = hit_by(parse_arm(arm), 4 * BLOCK, 2 * BLOCK, len(tokens), granted=0)
        assert hit_reason(expected, 0) == "hit 0 tokens, but the workload implies 32"


def test_loads_of_a_store_that_keeps_failing_fail_at_once(worker: TTFTConnector, monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker._worker is not None
    store, asked = worker._worker._store, []

    def fail(reads: Sequence[Read]) -> None:
        asked.append(reads)
        raise StoreUnavailable("no answer")

    monkeypatch.setattr(store.inner, "read", fail)  # type: ignore[attr-defined]
    for number in range(5):
        load = Load("chunkwise:pool=0", LoadRequest(str(number), ("0" * 32,), (3, 4)), "")  # type: ignore[arg-type]
        worker.bind_connector_metadata(StepMetadata(Step(loads=[load])))
        worker.start_load_kv(SimpleNamespace())
        worker.wait_for_save()
        assert worker.get_block_ids_with_load_errors() == {3, 4}
    assert len(asked) == 3
    told = worker.get_kv_connector_stats()
    assert told and told.data == {"failed_blocks": 10, "store_skips": 1, "store_skipping": 1}
