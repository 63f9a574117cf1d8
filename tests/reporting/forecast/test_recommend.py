"""Recommendations: never worse than the margin by the model itself, monotone in the store, in arms that engines accept."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import UsageError
from harness.core.options import parse_options, split_spec
from harness.core.recurrence import Link, Step, best_groups, predict_chunkwise, predict_layerwise
from harness.engines.base import EngineOptions
from harness.engines.chunkwise import ChunkwiseOptions
from harness.engines.hybrid import HybridOptions
from harness.engines.layerwise import LayerwiseOptions
from harness.reporting.forecast import Advice, Basis, Curve, Grid, advise, long_table, pays_from
from harness.reporting.forecast.grid import BASE, complexity, threads
from harness.reporting.forecast.prediction import DEFAULTS, Setup
from harness.reporting.forecast.table import COLUMNS
from harness.results.evidence import Arm

CLOSE = 1e-9
SMALL = Grid((0, 2, 8), (1, 4), (1, 2, 8), ("1", "2"), (1, 4))


def basis(link: Link, layers: int = 8, compute_s: float = 0.05, overhead_s: float = 0.005) -> Basis:
    setup = Setup(link, layers, 500_000, 256, None)
    return Basis(setup, Curve.of("compute", {0: compute_s}), overhead_s, 32)


links = st.builds(
    Link,
    st.floats(0, 0.05),
    st.floats(1e6, 1e11),
    st.one_of(st.none(), st.floats(1e6, 1e11)),
)
bases = st.builds(basis, links, st.integers(1, 12), st.floats(0, 1), st.floats(0, 0.1))
chunks = st.integers(1, 24)
margins = st.floats(0, 1)


def by_name(advice: Advice) -> dict[str, float]:
    return {one.arm.name: one.ttft_s for one in advice.forecasts}


@settings(deadline=None, max_examples=60)
@given(bases, chunks, margins)
def test_never_slower_than_the_margin_and_nothing_simpler_would_do(start: Basis, count: int, margin: float) -> None:
    advice = advise(start, SMALL, [256 * count], margin)[0]
    best = min(one.ttft_s for one in advice.forecasts)
    assert advice.soonest.ttft_s <= best * (1 + CLOSE)
    assert advice.recommended.ttft_s <= best * (1 + margin) * (1 + 2 * CLOSE)
    assert 0 <= advice.given_up + CLOSE <= margin + 3 * CLOSE
    simpler = [one for one in advice.forecasts if complexity(one.arm) < complexity(advice.recommended.arm)]
    assert all(one.ttft_s > best * (1 + margin) for one in simpler)
    assert advice.floor_s <= best * (1 + CLOSE)


@settings(deadline=None, max_examples=60)
@given(bases, chunks)
def test_without_a_margin_the_models_soonest_is_taken(start: Basis, count: int) -> None:
    advice = advise(start, SMALL, [256 * count], 0.0)[0]
    assert advice.recommended.ttft_s == pytest.approx(min(by_name(advice).values()))
    assert advice.other is not None and advice.other.arm.engine != advice.recommended.arm.engine
    others = [one.ttft_s for one in advice.forecasts if one.arm.engine == advice.other.arm.engine]
    assert advice.other.ttft_s == pytest.approx(min(others))


@settings(deadline=None, max_examples=60)
@given(bases, chunks, st.floats(0, 0.05), st.floats(1, 10))
def test_a_worse_store_or_model_never_shortens_a_prediction(start: Basis, count: int, more_s: float, factor: float) -> None:
    link = start.setup.link
    before = by_name(advise(start, SMALL, [256 * count])[0])
    worse = [
        replace(link, latency_s=link.latency_s + more_s),
        replace(link, stream_bytes_per_s=link.stream_bytes_per_s / factor),
        replace(link, total_bytes_per_s=(link.total_bytes_per_s or 1e12) / factor),
    ]
    slower = [replace(start, setup=replace(start.setup, link=one)) for one in worse]
    slower.append(replace(start, compute=Curve.of("compute", {0: start.compute.at(0) + more_s})))
    for other in slower:
        after = by_name(advise(other, SMALL, [256 * count])[0])
        assert all(after[name] >= seconds * (1 - CLOSE) for name, seconds in before.items())


@settings(deadline=None, max_examples=40)
@given(bases, chunks)
def test_a_longer_prefix_is_never_sooner(start: Basis, count: int) -> None:
    short, long = advise(start, SMALL, [256 * count, 256 * (count + 1)])
    assert long.soonest.ttft_s >= short.soonest.ttft_s * (1 - 2 * CLOSE)


def test_the_numbers_are_the_models() -> None:
    link, step = Link(0.002, 300e6), Step(8, 8, 500_000, 0.05, 0.005)
    found = by_name(advise(basis(link), SMALL, [2048])[0])
    assert found[BASE] == predict_chunkwise(link, step)
    assert found["chunkwise:pool=8,batch=4"] == predict_chunkwise(link, step, 8, 4)
    assert found["layerwise:readers=4,depth=2,groups=2"] == predict_layerwise(link, step, 4, 2, 2)


def test_a_store_that_costs_nothing_needs_no_threads() -> None:
    assert advise(basis(Link(0.0, 1e14)), Grid(), [1024, 8192])[0].recommended.arm.name == BASE


def test_a_slow_store_and_a_long_compute_call_for_layers() -> None:
    advice = advise(basis(Link(0.001, 200e6), compute_s=0.3), Grid(), [2048])[0]
    assert advice.recommended.arm.engine == "layerwise"
    assert advice.recommended.ttft_s < 0.7 * advice.base.ttft_s


def test_nothing_that_is_recommended_is_beaten_by_groups_or_by_a_part() -> None:
    """By more than the margin; hybrid is tried where it is known what a token takes."""
    start = basis(Link(0.002, 300e6, 75e6), compute_s=0.03)
    alone, known = (advise(one, Grid(), [2048], 0.0)[0] for one in (start, start.recomputing(0.195e-3)))
    step = start.step(2048)
    link, layers = start.setup.link, step.layers
    best = min(
        predict_layerwise(link, step, readers, layers, best_groups(link, step, readers, layers)) for readers in Grid().readers
    )
    assert alone.recommended.ttft_s <= best * (1 + CLOSE)
    assert known.recommended.arm.engine == "hybrid"
    assert known.recommended.ttft_s < 0.8 * alone.recommended.ttft_s
    assert not any(one.arm.engine == "hybrid" for one in alone.forecasts)
    assert not any("auto" in one.arm.name for one in known.forecasts), "groups are written out"


def test_every_arm_is_one_that_its_engine_takes() -> None:
    models: dict[str, type[EngineOptions]] = {
        "chunkwise": ChunkwiseOptions, "layerwise": LayerwiseOptions, "hybrid": HybridOptions,
    }  # fmt: skip
    found = advise(basis(Link(0.002, 300e6)).recomputing(1e-4), Grid(), [2048])[0]
    for arm in [*Grid().arms(24), *(one.arm for one in found.forecasts)]:
        engine, options = split_spec(arm.name)
        parsed = parse_options(models[engine], options, engine).model_dump()
        assert arm.engine == engine
        assert {name: parsed[name] for name in arm.options} == arm.options


def test_arms_are_there_once_and_the_base_first() -> None:
    names = [arm.name for arm in Grid((4,), (1,), (2, 16), ("1", "8"), (1,)).arms(layers=2)]
    assert names == [
        BASE,
        "chunkwise:pool=4",
        "layerwise:readers=1,depth=2",
        "layerwise:readers=1,depth=2,groups=2",
    ]


def test_fewer_threads_are_simpler_then_chunkwise_then_the_defaults() -> None:
    def arm(engine: str, **options: int) -> Arm:
        return Arm("", engine, options, 0)

    order = [
        arm("chunkwise", pool=0, batch=1),
        arm("layerwise", readers=1, depth=DEFAULTS["depth"], batch=1),
        arm("layerwise", readers=1, depth=2, batch=1),
        arm("layerwise", readers=1, depth=2, batch=4),
        arm("chunkwise", pool=2, batch=4),
        arm("layerwise", readers=2, depth=DEFAULTS["depth"], batch=1),
    ]
    assert sorted(order, key=complexity) == order
    assert [threads(one) for one in order] == [0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pools": (-1,)}, "pools has -1; give whole numbers from 0 to 1,024"),
        ({"readers": (0, 2)}, "readers has 0; give whole numbers from 1"),
        ({"groups": ()}, "groups is empty; give numbers of layers"),
        ({"groups": ("six",)}, "groups=six is no number of layers"),
        ({"depths": (5000,)}, "depths has 5000"),
    ],
)
def test_a_grid_that_no_engine_takes_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Grid(**values)


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        (1000, "a prefix of 1,000 tokens is not whole chunks of 256, and only those are fetched; give 768 or 1,024"),
        (100, "give 256"),
        (0, "a prefix of 0 tokens is invalid"),
        (-256, "a prefix of -256 tokens is invalid"),
        (10_000_128, "is invalid; give 1 to 10,000,000"),
    ],
)
def test_a_prefix_that_cannot_be_is_refused(prefix: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        advise(basis(Link(0.002, 300e6)), Grid(), [prefix])


def test_too_much_work_is_refused() -> None:
    with pytest.raises(UsageError, match="store calls to walk through; give shorter --prefix lengths or fewer values"):
        advise(basis(Link(0.002, 300e6), layers=100), Grid(), [9_999_872])


def test_fetching_pays_from_where_recomputing_takes_longer() -> None:
    start = basis(Link(0.05, 1e9), overhead_s=0.0).recomputing(0.1e-3)
    advices = advise(start, SMALL, [256, 1024, 8192])
    assert [advice.pays for advice in advices] == [False, True, True]
    tokens = pays_from(start, advices)
    assert tokens is not None and 256 < tokens <= 1024 and tokens % 256 == 0
    arm = advices[1].recommended.arm.name
    at, before = (by_name(advise(start, SMALL, [length])[0])[arm] for length in (tokens, tokens - 256))
    assert at < 0.1e-3 * (tokens + 32) and before >= 0.1e-3 * (tokens - 256 + 32)


def test_where_fetching_always_or_never_pays_there_is_no_such_length() -> None:
    for seconds in (1e-9, 1.0):
        start = basis(Link(0.05, 1e9)).recomputing(seconds)
        assert pays_from(start, advise(start, SMALL, [256, 1024])) is None
    start = basis(Link(0.05, 1e9))
    advices = advise(start, SMALL, [256])
    assert pays_from(start, advices) is None and advices[0].pays is None


def test_the_long_table_has_every_arm_at_every_length() -> None:
    advices = advise(basis(Link(0.002, 300e6)), SMALL, [1024, 256])
    table = long_table(advices)
    assert table.dtypes.astype(str).to_dict() == dict(COLUMNS)
    assert len(table) == 2 * len(SMALL.arms(8))
    assert table.loc[table["recommended"], ["prefix_tokens", "arm"]].to_numpy().tolist() == [
        [advice.prefix, advice.recommended.arm.name] for advice in advices
    ]
    assert (table.loc[table["arm"] == BASE, "ratio"] == 1).all()
