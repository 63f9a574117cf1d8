import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.experiment.cache_state import expected_hits
from harness.workloads.base import DataSet, Prompt, outline_of
from harness.workloads.outline import Outline, columns
from harness.workloads.summary import granted, summarise

ROWS = st.lists(st.tuples(st.integers(1, 400), st.integers(0, 400), st.integers(1, 9)), min_size=1, max_size=30)


def outline(
    prompts: list[int], hits: list[int] | None = None, times: list[float] | None = None, recorded: int = -1, block: int = 0
) -> Outline:
    hits, times = hits or [0] * len(prompts), times or [0.0] * len(prompts)
    rows = [(p, h, 4, recorded, t) for p, h, t in zip(prompts, hits, times, strict=True)]
    return Outline(*columns(rows), block_tokens=block, notes=("a note",))


def test_lengths_are_values_that_occur() -> None:
    lengths = summarise(outline(list(range(100, 0, -1))), 16).prompts
    assert (lengths.smallest, lengths.p10, lengths.p50, lengths.p90, lengths.p99, lengths.largest) == (1, 10, 50, 90, 99, 100)
    assert (lengths.mean, lengths.total) == (50.5, 5050)


def test_recorded_outputs_are_shown_only_where_the_source_has_them() -> None:
    assert summarise(outline([5]), 16).recorded is None
    found = summarise(outline([5, 6], recorded=70), 16)
    assert found.recorded is not None and found.recorded.total == 140
    assert found.asked.total == 8


def test_reuse_to_the_token_in_chunks_and_in_blocks() -> None:
    """Blocks of 32: 4 + 2 + 1, of which the hits touch 2 + 2; chunks of 16: 48 and 32 of the 64, as one token must be left."""
    reuse = summarise(outline([128, 64, 10], [50, 64, 0], block=32), 16).reuse
    assert reuse.tokens == pytest.approx(114 / 202)
    assert reuse.chunks == pytest.approx((48 + 48) / 202)
    assert reuse.blocks == pytest.approx(4 / 7)
    assert reuse.prompts == 2
    assert reuse.median == pytest.approx((48 / 128 + 48 / 64) / 2)


def test_without_hits_and_blocks() -> None:
    reuse = summarise(outline([128, 64]), 16).reuse
    assert (reuse.tokens, reuse.chunks, reuse.blocks, reuse.prompts, reuse.median) == (0, 0, None, 0, 0)


@settings(deadline=None)
@given(rows=ROWS, chunk=st.integers(1, 40))
def test_what_is_granted_is_what_a_primed_run_grants(rows: list[tuple[int, int, int]], chunk: int) -> None:
    prompts = [Prompt(str(i), (1,) * tokens, min(hit, tokens), output) for i, (tokens, hit, output) in enumerate(rows)]
    data = DataSet(tuple(prompts))
    assert granted(outline_of(data), chunk).tolist() == expected_hits(data, "primed", chunk)


def test_even_arrivals_are_infinitely_smooth() -> None:
    arrivals = summarise(outline([9] * 5, times=[1, 1.5, 2, 2.5, 3]), 16).arrivals
    assert arrivals is not None
    assert (arrivals.span_s, arrivals.rate, arrivals.variation, arrivals.same, arrivals.peak) == (2, 2, 0, 0, 2)
    assert math.isinf(arrivals.burstiness)


def test_bursts_show() -> None:
    arrivals = summarise(outline([9] * 6, times=[0, 0, 0, 10, 10, 10]), 16).arrivals
    assert arrivals is not None
    assert arrivals.rate == 0.5
    assert arrivals.variation == pytest.approx(2.0)  # gaps 0 0 10 0 0
    assert arrivals.burstiness == pytest.approx(0.25)
    assert (arrivals.same, arrivals.peak) == (0.8, 3)


@pytest.mark.parametrize("shape", [0.25, 1.0, 4.0])
def test_burstiness_is_the_shape_of_the_gamma_distribution(shape: float) -> None:
    gaps = np.random.default_rng(7).gamma(shape, 1 / shape, 20_000)
    arrivals = summarise(outline([9] * len(gaps), times=np.cumsum(gaps).tolist()), 16).arrivals
    assert arrivals is not None
    assert arrivals.burstiness == pytest.approx(shape, rel=0.1)
    assert arrivals.rate == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("times", [[0.0, 0.0, 0.0], [3.0, 3.0, 3.0]])
def test_without_a_clock_there_are_no_arrivals(times: list[float]) -> None:
    assert summarise(outline([1, 2, 3], times=times), 16).arrivals is None
    assert summarise(outline([1, 2], times=[0, 1]), 16).arrivals is None


def test_notes_come_along() -> None:
    assert summarise(outline([1]), 16).notes == ("a note",)
    assert summarise(outline([1, 2, 3]), 16).requests == 3
