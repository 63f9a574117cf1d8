"""Options inside settings, as --set and --vary name them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import UsageError
from harness.core.options import split_spec
from harness.experiment.dotted import experiment_of, with_arm_option, with_option, with_store_option, with_value
from harness.experiment.settings import Experiment, given_settings, merge

SHAPED = merge({"store": "shaped+file:///tmp/kv?latency_ms=2", "arrivals": "poisson:rate=2"})


def test_an_option_is_set_inside_the_setting_that_the_last_source_gave() -> None:
    items = ["workload.suffix=064", "store.latency_ms=8", "vllm.max_num_seqs=4", "chunk_tokens=512"]
    written = {"workload": "shared_prefix:prefix=512,suffix=32", "store": SHAPED.store}
    found = experiment_of(written, given_settings(items), {"workload": "shared_prefix:groups=1", "pairs": None})
    assert found.workload == "shared_prefix:groups=1,suffix=064"
    assert found.store == "shaped+file:///tmp/kv?latency_ms=8"
    assert found.vllm == {"max_num_seqs": 4}
    assert found.chunk_tokens == 512


@pytest.mark.parametrize("value", ["true", "[1]", "1.50", "a/b.jsonl", "x y"])
def test_the_value_of_an_option_stays_as_it_was_written(value: str) -> None:
    found = experiment_of({"workload": "mooncake"}, given_settings([f"workload.path={value}"]))
    assert found.workload == f"mooncake:path={value}"


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("workload.sufix=64", "unknown option of workload 'workload.sufix' .did you mean 'workload.suffix'"),
        ("store.latency=1", "did you mean 'store.latency_ms'"),
        ("workload.suffix=64,prompts=9", "suffix=64,prompts=9 has a comma in it"),
        ("store.latency_ms=-1", "store 'shaped': latency_ms='-1' is invalid"),
        (
            "chunkwise.pool=4",
            "--set chunkwise.pool is no option inside workload, store, .*options of an arm are part of its spec",
        ),
        ("vllm.a.b=4", "--set vllm.a.b is no option"),
    ],
)
def test_an_option_that_does_not_exist_is_refused_with_what_does(item: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        experiment_of(SHAPED.model_dump(), given_settings([item]))


@pytest.mark.parametrize(
    ("key", "value", "name", "expected"),
    [
        ("concurrency", "4", "concurrency", 4),
        ("kv_cache_gib", "1.5", "kv_cache_gib", 1.5),
        ("slo", "ttft:1s", "slo", "ttft:1s"),
        ("bounds", "false", "bounds", False),
        ("workload.suffix", "64", "workload", "shared_prefix:suffix=64"),
        ("vllm.max_num_seqs", "8", "vllm", {"max_num_seqs": 8}),
        ("vllm.quantization", "awq", "vllm", {"quantization": "awq"}),
    ],
)
def test_a_value_lands_where_its_key_says(key: str, value: str, name: str, expected: object) -> None:
    changed = with_value(Experiment(), key, value)
    assert getattr(changed, name) == expected
    assert changed.model_dump(exclude={name}) == Experiment().model_dump(exclude={name})


def test_a_value_that_will_not_do_is_named() -> None:
    with pytest.raises(UsageError, match="concurrency='x' is invalid"):
        with_value(Experiment(), "concurrency", "x")


def test_what_the_store_would_refuse_is_refused_before_it_is_opened() -> None:
    with pytest.raises(UsageError, match="store 'shaped': latency_ms='-1' is invalid"):
        with_value(SHAPED, "store.latency_ms", "-1")
    assert with_value(SHAPED, "store.fsync", "1").store == "shaped+file:///tmp/kv?latency_ms=2&fsync=1"


def test_an_at_sign_is_part_of_a_path_and_begins_a_label_of_an_arm() -> None:
    assert with_option("mooncake:path=/data/a@b.jsonl", "limit", 5) == "mooncake:path=/data/a@b.jsonl,limit=5"
    assert with_arm_option("chunkwise:pool=0@again", "pool", 4) == "chunkwise:pool=4@again"


NAMES = st.sampled_from(["a", "b", "c", "d"])
TEXTS = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=6)


@given(st.dictionaries(NAMES, TEXTS), NAMES, TEXTS, st.sampled_from(["", "@again"]))
def test_one_option_of_a_spec_changes_and_no_other(options: dict[str, str], option: str, value: str, label: str) -> None:
    spec = "name" + (":" + ",".join(f"{key}={one}" for key, one in options.items()) if options else "") + label
    changed = with_arm_option(spec, option, value)
    assert changed.endswith(label)
    assert split_spec(changed.removesuffix(label) if label else changed) == ("name", {**options, option: value})
    assert with_arm_option(changed, option, value) == changed


@pytest.mark.parametrize(
    ("url", "changed"),
    [
        ("file:///tmp/kv", "file:///tmp/kv?x=2"),
        ("file:///tmp/kv?a=1&x=0&b=%2F", "file:///tmp/kv?a=1&x=2&b=%2F"),
        ("redis://u:p%40w@h:1/0?b=", "redis://u:p%40w@h:1/0?b=&x=2"),
    ],
)
def test_one_option_of_a_url_changes_and_the_rest_stays_as_it_was_written(url: str, changed: str) -> None:
    assert with_store_option(url, "x", "2") == changed
