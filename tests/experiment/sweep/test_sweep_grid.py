"""Points and arms of a grid."""

from itertools import product
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import UsageError
from harness.experiment.settings import merge
from harness.experiment.sweep.axes import parse_axes
from harness.experiment.sweep.grid import MOST_POINTS, Grid, arm_values, grid_of

SMALL = merge({"arms": ["chunkwise:pool=0", "layerwise:depth=4"], "store": "shaped+file:///tmp/kv"})


def grid(*texts: str) -> Grid:
    return grid_of(SMALL, parse_axes(list(texts)))


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "concurrency": st.lists(st.integers(1, 64), min_size=2, max_size=4, unique=True),
            "chunk_tokens": st.lists(st.integers(1, 512), min_size=2, max_size=3, unique=True),
            "workload.prefix": st.lists(st.integers(1, 4096), min_size=2, max_size=3, unique=True),
            "chunkwise.pool": st.lists(st.integers(0, 64), min_size=2, max_size=3, unique=True),
            "layerwise.depth": st.lists(st.integers(1, 64), min_size=2, max_size=3, unique=True),
        },
    ).filter(bool)
)
def test_every_combination_is_there_once(axes: dict[str, list[int]]) -> None:
    found = grid(*(f"{key}={','.join(map(str, values))}" for key, values in axes.items()))
    points = {key: values for key, values in axes.items() if key not in ("chunkwise.pool", "layerwise.depth")}
    assert [tuple(point.values.values()) for point in found.points] == list(
        product(*([str(v) for v in vs] for vs in points.values()))
    )
    assert [point.number for point in found.points] == list(range(1, prod(map(len, points.values())) + 1))
    assert len({point.folder for point in found.points}) == len(found.points)
    pools, depths = axes.get("chunkwise.pool", [0]), axes.get("layerwise.depth", [4])
    arms = [f"chunkwise:pool={pool}" for pool in pools] + [f"layerwise:depth={depth}" for depth in depths]
    for point in found.points:
        assert point.experiment.arms == arms
        for key, value in point.values.items():
            assert value in point.experiment.workload if "." in key else getattr(point.experiment, key) == int(value)
    again = grid_of(found.base, found.axes)
    assert [p.experiment for p in again.points] == [p.experiment for p in found.points], "sweep.json gives the same grid"


def test_a_whole_setting_goes_in_before_an_option_of_it() -> None:
    specs = "shared_prefix:suffix=8|multi_turn:turns=2"
    found = grid_of(SMALL, parse_axes(["workload.output=2,3", f"workload={specs}"]))
    workloads = [point.experiment.workload for point in found.points]
    assert workloads[0] == "shared_prefix:suffix=8,output=2" and workloads[3] == "multi_turn:turns=2,output=3"


def test_an_option_that_one_of_the_whole_settings_lacks_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown option of workload to vary 'workload\.prefix'"):
        grid_of(SMALL, parse_axes(["workload.prefix=256,512", "workload=shared_prefix:suffix=8|multi_turn:turns=2"]))


def test_a_label_stays_with_its_arm() -> None:
    base = merge({"arms": ["chunkwise:pool=0", "chunkwise:pool=0@again"]})
    found = grid_of(base, parse_axes(["chunkwise.pool=0,8"]))
    assert found.points[0].experiment.arms == [
        "chunkwise:pool=0",
        "chunkwise:pool=8",
        "chunkwise:pool=0@again",
        "chunkwise:pool=8@again",
    ]
    assert arm_values("chunkwise:pool=8@again", found.axes) == {"chunkwise.pool": "8"}
    assert arm_values("layerwise:depth=4", found.axes) == {}


def test_too_large_a_grid_is_refused() -> None:
    many = ",".join(map(str, range(1, MOST_POINTS + 2)))
    with pytest.raises(UsageError, match="the grid has 1,001 points, but at most 1,000 are allowed"):
        grid(f"seed={many}")
    with pytest.raises(UsageError, match="make 65 arms, but at most 64 are allowed"):
        grid("chunkwise.pool=" + ",".join(map(str, range(64))))


def test_two_values_that_mean_the_same_are_refused() -> None:
    with pytest.raises(UsageError, match=r"concurrency=0x10.*concurrency=16 are the same experiment|which are the same"):
        grid("concurrency=0x10,16")


def test_folders_have_safe_names() -> None:
    found = grid("store=file:///tmp/a?direct=1|file:///../b")
    assert [point.folder for point in found.points] == ["01-store=file-tmp-a-direct=1", "02-store=file-..-b"]
