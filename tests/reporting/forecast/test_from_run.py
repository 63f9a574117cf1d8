"""A recommendation from a stored run: its store, geometry and bounds, and how well the model smallest_lead it."""

from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import ResultsError
from harness.core.recurrence import Link
from harness.reporting.forecast import Check, check, from_run, miss, smallest_lead
from harness.reporting.forecast.prediction import predictions
from harness.results import load
from harness.results.evidence import Evidence, gather
from harness.testing.runs import CHUNK_TOKENS, LAYERS, write_synthetic_run

ARMS = ("chunkwise:pool=0", "layerwise:depth=4", "floor", "recompute")


def evidence_of(folder: Path, arms: tuple[str, ...] = ARMS, **config: Any) -> Evidence:
    store = "shaped+file:///kv?latency_ms=2&stream_mb_s=300&total_mb_s=900"
    meta = {"config": {"store": store, "concurrency": 1} | config}
    return gather(load(write_synthetic_run(folder, arms, rounds=3, prompts=6, spans=False, meta=meta)))


def test_store_geometry_and_bounds_are_the_runs(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path)
    basis = from_run(evidence)
    assert basis.setup.link == Link(0.002, 300e6, 900e6)
    assert (basis.setup.layers, basis.setup.chunk_tokens, basis.suffix) == (LAYERS, CHUNK_TOKENS, 128)
    rows = evidence.rows.astype({"hit_tokens": "float64"})
    floor = rows[rows["arm"] == "floor"]
    for tokens, seconds in basis.compute.points:
        prompts = floor[floor["hit_tokens"] == tokens]
        assert seconds == pytest.approx(prompts.groupby("prompt")["compute_s"].median().median())
        again = rows[(rows["arm"] == "recompute") & rows["prompt"].isin(prompts["prompt"])]
        assert basis.recompute is not None
        assert basis.recompute.at(tokens) == pytest.approx(again.groupby("prompt")["ttft_s"].median().median())
    assert basis.overhead_s == pytest.approx((floor["ttft_s"] - floor["compute_s"]).median(), rel=0.05)
    assert basis.notes == ()


def test_another_store_can_stand_in_for_the_runs(tmp_path: Path) -> None:
    link = Link(0.01, 1e9)
    assert from_run(evidence_of(tmp_path), link).setup.link == link
    assert from_run(evidence_of(tmp_path / "real", store="file:///kv"), link).setup.link == link


def test_without_a_recompute_arm_recomputing_is_not_known(tmp_path: Path) -> None:
    assert from_run(evidence_of(tmp_path, ARMS[:3])).recompute is None


@pytest.mark.parametrize(
    ("arms", "config", "message"),
    [
        (ARMS, {"store": "file:///kv"}, "only a shaped store.*; give both --latency-ms and --stream-mb-s"),
        (ARMS[:2], {}, "no floor arm"),
        (ARMS, {"concurrency": 4}, "here there were 4"),
    ],
)
def test_what_the_run_does_not_tell_is_named(tmp_path: Path, arms: tuple[str, ...], config: dict[str, Any], message: str) -> None:
    with pytest.raises(ResultsError, match=message):
        from_run(evidence_of(tmp_path, arms, **config))


def test_the_check_is_the_reports_prediction(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path)
    found = predictions(evidence)
    checks = check(evidence)
    assert [one.arm for one in checks] == list(ARMS[:2])
    for one in checks:
        rows = found[found["arm"] == one.arm]
        assert one.prompts == len(rows) == 6
        assert one.ratio == pytest.approx((rows["measured_s"] / rows["predicted_s"]).median())
        stalls = evidence.rows[evidence.rows["arm"] == one.arm].groupby("prompt")["stall_s"].median()
        assert one.measured_stall_s == pytest.approx(stalls.median())


def test_no_less_is_told_than_the_model_misjudged_within_reason() -> None:
    def of(ratio: float) -> float:
        return smallest_lead(0.05, [Check("a", 1, 1.0, 1.0, 1.0, 0.0, 0.0), Check("b", 1, ratio, 1.0, ratio, 0.0, 0.0)])

    assert [of(1.02), of(1.12), of(3.0), smallest_lead(0.4, [])] == pytest.approx([0.05, 0.12, 0.25, 0.4])


def test_a_miss_is_what_does_not_cancel_between_arms() -> None:
    def of(*ratios: float) -> float:
        return miss([Check("a", 1, ratio, 1.0, ratio, 0.0, 0.0) for ratio in ratios])

    assert of() == of(1.3) == of(1.3, 1.3) == 0
    assert of(0.9, 1.08, 1.0) == pytest.approx(0.2)
