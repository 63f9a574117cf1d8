"""Predictions for a stored run: the model's numbers, or a sentence on why there are none."""

from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import ResultsError
from harness.core.recurrence import Link, Step, predict_layerwise
from harness.engines.chunkwise import ChunkwiseOptions
from harness.engines.layerwise import LayerwiseOptions
from harness.reporting.forecast.prediction import DEFAULTS, predictions
from harness.results import load
from harness.results.evidence import Evidence, gather
from harness.testing.runs import CHUNK_TOKENS, LAYERS, write_synthetic_run

ARMS = ("chunkwise:pool=0", "layerwise:depth=4", "floor")


def evidence_of(folder: Path, arms: tuple[str, ...] = ARMS, **config: Any) -> Evidence:
    store = "shaped+file:///kv?latency_ms=2&stream_mb_s=300"
    meta = {"config": {"store": store, "concurrency": 1} | config}
    return gather(load(write_synthetic_run(folder, arms, rounds=3, prompts=4, spans=False, meta=meta)))


def test_a_prediction_is_the_models_with_the_floors_compute(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path)
    found = predictions(evidence)
    assert set(found["arm"]) == set(ARMS[:2])
    for prompt, rows in evidence.rows.groupby("prompt"):
        floor = rows[rows["arm"] == "floor"][["ttft_s", "compute_s"]].astype(float).median()
        chunks = int(rows["hit_tokens"].max()) // CHUNK_TOKENS
        step = Step(chunks, LAYERS, 2 * 262144, floor["compute_s"], floor["ttft_s"] - floor["compute_s"])
        row = found[(found["arm"] == "layerwise:depth=4") & (found["prompt"] == prompt)].iloc[0]
        assert row["predicted_s"] == pytest.approx(predict_layerwise(Link(0.002, 300e6), step, 8, 4))
        assert row["predicted_stall_s"] == pytest.approx(row["predicted_s"] - floor["ttft_s"])
        assert row["measured_stall_s"] == pytest.approx(rows[rows["arm"] == "layerwise:depth=4"]["stall_s"].median())
        assert row["measured_s"] == pytest.approx(rows[rows["arm"] == "layerwise:depth=4"]["ttft_s"].median())


@pytest.mark.parametrize(
    ("arms", "config", "reason"),
    [
        (ARMS, {"store": "file:///kv"}, "only a shaped store"),
        (ARMS, {"store": "shaped+file:///kv?latency_ms=2"}, "only a shaped store with stream_mb_s"),
        (ARMS, {"store": "shaped+file:///kv?stream_mb_s=fast"}, "only a shaped store with stream_mb_s"),
        (ARMS, {"concurrency": 4}, "here there were 4"),
        (ARMS, {"arrivals": "poisson:rate=2"}, "others were served beside it"),
        (ARMS, {"neighbours": 1}, "others were served beside it"),
        (ARMS[:2], {}, "no floor arm"),
        (("own:thing=1", "floor"), {}, "no arm that the recurrence knows"),
    ],
)
def test_where_nothing_can_be_predicted_the_reason_is_told(
    tmp_path: Path, arms: tuple[str, ...], config: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ResultsError, match=reason):
        predictions(evidence_of(tmp_path, arms, **config))


def test_the_defaults_are_the_engines() -> None:
    chunkwise, layerwise = ChunkwiseOptions().model_dump(), LayerwiseOptions().model_dump()
    assert all(value == {**chunkwise, **layerwise}[name] for name, value in DEFAULTS.items())
    assert chunkwise["batch"] == layerwise["batch"]
