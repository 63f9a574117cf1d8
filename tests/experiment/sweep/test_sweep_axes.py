"""Axes as --vary gives them, and where their keys stand in an experiment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import UsageError
from harness.experiment.settings import merge
from harness.experiment.sweep.axes import Axis, parse_axes, parse_axis
from harness.experiment.sweep.settings import check_key, is_arm_axis

VALUE = st.text(st.characters(categories=("L", "N"), include_characters=".:/-_@"), min_size=1, max_size=12).filter(
    lambda text: text == text.strip()
)


@given(st.sampled_from(["concurrency", "workload.prefix", "a.b"]), st.lists(VALUE, min_size=2, max_size=6, unique=True))
def test_an_axis_written_out_is_read_back(key: str, values: list[str]) -> None:
    axis = Axis(key, tuple(values))
    try:
        assert parse_axis(axis.text) == axis
    except UsageError as error:  # two texts of one number, as 1 and 01
        assert "which are the same" in str(error)


@given(
    st.lists(
        st.text(st.characters(categories=("L", "N"), include_characters=",=:"), min_size=1, max_size=9), min_size=2, unique=True
    )
)
def test_values_with_commas_are_separated_by_bars(values: list[str]) -> None:
    axis = Axis("workload", tuple(values))
    if any("," in value for value in values):
        try:
            assert parse_axis(axis.text).values == axis.values
        except UsageError as error:
            assert "which are the same" in str(error)


@given(st.text(max_size=40))
def test_any_text_is_an_axis_or_a_sentence(text: str) -> None:
    try:
        axis = parse_axis(text)
    except UsageError as error:
        assert "--vary" in str(error)
    else:
        assert axis.key and len(axis.values) > 1 and all(axis.values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("concurrency", "is not KEY=V1,V2"),
        ("=1,2", "is not KEY=V1,V2"),
        ("concurrency=1,,2", "has an empty value"),
        ("concurrency=", "has an empty value"),
        ("concurrency=1", "has one value, so nothing varies"),
        ("concurrency=1,2,1", "lists 1 twice"),
        ("concurrency=1,2,1.0", "lists 1 and 1.0, which are the same"),
    ],
)
def test_what_is_no_axis_is_told(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace(".", r"\.")):
        parse_axis(text)


def test_a_key_stands_once_and_something_has_to_vary() -> None:
    with pytest.raises(UsageError, match="--vary pairs is listed twice"):
        parse_axes(["pairs=1,2", "pairs=3,4"])
    with pytest.raises(UsageError, match="needs something to vary"):
        parse_axes([])


SHAPED = merge({"store": "shaped+file:///tmp/kv?latency_ms=2", "arrivals": "poisson:rate=2"})


@pytest.mark.parametrize(
    ("axis", "said"),
    [
        ("concurency=1,2", "unknown setting to vary 'concurency' .did you mean 'concurrency'.*workload.OPTION"),
        ("arms=chunkwise,layerwise", "arms cannot be varied: several --arm make several arms"),
        ("pairs=1,2", "pairs cannot be varied"),
        ("vllm=1,2", "name the engine argument, such as vllm.max_num_seqs"),
        ("workload.prefx=1,2", "unknown option of workload to vary 'workload.prefx' .did you mean 'workload.prefix'"),
        ("store.latency=1,2", "did you mean 'store.latency_ms'"),
        ("store.bucket=a,b", "known: store.direct, store.fsync, store.jitter"),
        ("chunkwise.pol=1,2", "did you mean 'chunkwise.pool'"),
        ("layerwise.pool=1,2", "known: .*layerwise.depth"),
        (
            "recompute.pool=1,2",
            "unknown thing to vary options of 'recompute'.*known: arrivals, chunkwise, layerwise, model, store",
        ),
        ("arrivals.burstiness=1,2", "known: arrivals.rate, arrivals.seed"),
        ("model.depth=1,2", "known: .*model.layers"),
        ("store=redis://u:secret@h/0,file:///tmp", "has a password in it"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(axis: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        check_key(parse_axis(axis), SHAPED)
    assert "secret" not in str(caught.value)


KNOWN = "concurrency=1,2 workload.prefix=1,2 store.latency_ms=0,2 store.fsync=0,1 chunkwise.pool=0,8 layerwise.depth=1,4 "
KNOWN += "vllm.max_num_seqs=4,8 arrivals.rate=1,2 model.layers=2,4 store=file:///a,file:///b layout=chunk,layer"


@pytest.mark.parametrize("axis", KNOWN.split())
def test_what_exists_may_vary(axis: str) -> None:
    parsed = parse_axis(axis)
    check_key(parsed, SHAPED)
    assert is_arm_axis(parsed) == (parsed.owner in ("chunkwise", "layerwise"))
