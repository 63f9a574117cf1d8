"""An experiment as written becomes one that can be carried out, or one sentence that says why not."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.chunks import hit_limit
from harness.core.errors import UsageError
from harness.experiment.plan import Setting, settle
from harness.experiment.settings import merge
from harness.replay import models

MODEL = "builtin:layers=2,hidden=64,intermediate=64,vocabulary=256"
SHORT = "shared_prefix:groups=2,prefix=32,suffix=5,prompts=2,output=3"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def settled(**changes: Any) -> Setting:
    small = {"model": MODEL, "dtype": "float32", "workload": SHORT, "chunk_tokens": 16, "arms": ["chunkwise", "layerwise"]}
    return settle(merge(small, changes))


def test_bounds_are_added_last() -> None:
    assert list(settled().arms) == ["chunkwise", "layerwise", "recompute", "floor"]


def test_bounds_named_by_the_user_stay_where_they_stand() -> None:
    assert list(settled(arms=["floor", "layerwise"]).arms) == ["floor", "layerwise", "recompute"]


def test_without_bounds_only_the_arms_are_measured() -> None:
    setting = settled(bounds=False, arms=["layerwise:depth=2"])
    assert list(setting.arms) == ["layerwise:depth=2"]
    # The connector has to know two more: one that primes, one that says what is right.
    assert setting.served_arms == ["layerwise:depth=2", "chunkwise", "recompute"]


def test_served_arms_stand_once() -> None:
    served = settled().served_arms
    assert len(served) == len(set(served))
    assert set(served) == {"chunkwise", "layerwise", "recompute", "floor"}


def test_natural_has_no_floor_and_nothing_to_prime() -> None:
    setting = settled(cache_state="natural")
    assert list(setting.arms) == ["chunkwise", "layerwise", "recompute"]
    assert (setting.heads, setting.primed_chunks) == ([], 0)
    assert setting.hits == [0, 0, 32, 32]


def test_primed_hits_the_whole_prefix_everywhere() -> None:
    setting = settled()
    assert setting.hits == [32] * 4
    assert setting.primed_chunks == 4
    assert sorted(len(head) for head in setting.heads) == [32, 32]


def test_the_warm_up_is_outside_the_measured_set_and_as_long() -> None:
    setting = settled()
    tokens, hit = setting.warmup
    assert (len(tokens), hit) == (37, 32)
    assert tokens not in {prompt.tokens for prompt in setting.data.prompts}
    assert tokens == settled().warmup[0]
    assert tokens != settled(seed=1).warmup[0]


@settings(deadline=None, max_examples=25)
@given(prefix=st.integers(16, 600), suffix=st.integers(1, 300), output=st.integers(2, 20))
def test_the_context_holds_the_longest_prompt_and_no_hit_is_all_of_it(prefix: int, suffix: int, output: int) -> None:
    setting = settled(workload=f"shared_prefix:groups=1,prefix={prefix},suffix={suffix},prompts=1,output={output}")
    assert setting.max_model_len % 256 == 0
    assert prefix + suffix + output <= setting.max_model_len <= prefix + suffix + output + 16 + 255
    assert setting.hits == [min(prefix // 16 * 16, hit_limit(prefix + suffix, 16))]


def test_the_context_never_exceeds_the_models() -> None:
    whole = models.resolve(MODEL, "float32").max_positions
    setting = settled(workload=f"shared_prefix:groups=1,prefix=64,suffix={whole - 64 - 2},prompts=1,output=2")
    assert setting.max_model_len == whole


def test_auto_dtype_is_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "default_dtype", lambda: "float16")
    assert settled(dtype="auto").dtype == "float16"
    assert settled(dtype="bfloat16").dtype == "bfloat16"


def idle_prompts(tmp_path: Path, lengths: list[int]) -> list[str]:
    trace = tmp_path / "idle.jsonl"
    lines = [json.dumps({"tokens": list(range(length)), "prefix_tokens": length - 1}) for length in lengths]
    trace.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [note for note in settled(workload=f"jsonl:path={trace}").notes if "hit no whole chunk" in note]


def test_prompts_that_load_nothing_are_told(tmp_path: Path) -> None:
    """Every arm does the same work there: a median among them would say "no difference" of any engine."""
    assert idle_prompts(tmp_path, [40, 50]) == []
    (few,) = idle_prompts(tmp_path, [40, 50, 10])
    assert few.startswith("1 of 3 prompts hit no whole chunk of 16 tokens") and "p50" not in few
    (most,) = idle_prompts(tmp_path, [40, 10, 11])
    assert most.startswith("2 of 3 prompts") and "the p50 lies among them" in most


def test_what_a_workload_notes_is_kept() -> None:
    setting = settled(workload="shared_prefix:groups=1,prefix=40,suffix=5,prompts=1")
    assert any("hits for 32" in note for note in setting.notes)


def test_prompts_with_one_output_token_get_two_and_a_note(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    lines = [{"tokens": [*range(40)], "prefix_tokens": 32, "output_tokens": count} for count in (1, 3)]
    file.write_text("".join(json.dumps(line | {"id": str(i)}) + "\n" for i, line in enumerate(lines)))
    setting = settled(workload=f"jsonl:path={file}")
    assert [prompt.output_tokens for prompt in setting.data.prompts] == [2, 3]
    assert any(note.startswith("1 of 2 prompts ask for one output token and get two") for note in setting.notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cache_state": "natural", "arms": ["chunkwise", "floor"]}, "floor arm cannot run in the natural state"),
        ({"cache_state": "natural", "concurrency": 2}, "natural with concurrency above 1 .*concurrency=1 or cache_state=primed"),
        ({"workload": "shared_prefix:prefix=15"}, "no prompt of the workload hits a whole chunk.*lower chunk_tokens"),
        ({"cache_state": "natural", "workload": "shared_prefix:prompts=1,groups=1,prefix=64"}, "hits a whole chunk"),
        ({"arms": ["chunkwize"]}, "unknown engine 'chunkwize' .did you mean 'chunkwise'"),
        ({"arms": ["layerwise:dept=2"]}, "'dept' .did you mean 'depth'"),
        ({"arms": ["layerwise:depth=0"]}, "depth=.*0"),
        ({"workload": "shared_prefixes"}, "unknown workload 'shared_prefixes' .did you mean 'shared_prefix'"),
        ({"workload": "shared_prefix:prefx=2"}, "'prefx' .did you mean 'prefix'"),
        ({"max_model_len": 10**9}, "max_model_len=1000000000 is more than the .* of model builtin"),
        ({"max_model_len": 20}, "no prompt of shared_prefix fits the model.*allows 20"),
        ({"max_model_len": 38, "workload": "shared_prefix:prefix=32,suffix=5,output=1"}, "needs 2 output tokens.*output=2"),
        ({"model": "builtin:layer=2"}, "'layer' .did you mean 'layers'"),
        ({"store": "fil:///tmp/kv"}, "unknown store 'fil' .did you mean 'file'"),
        ({"store": "shaped+file:///tmp/kv?latency=2"}, "'latency' .did you mean 'latency_ms'"),
        ({"store": "shaped+redis://localhost:6379?latency_ms=fast"}, "latency_ms='fast' is invalid"),
        ({"store": "shaped+file:///tmp/kv?direct=2"}, "direct='2' is invalid"),
        ({"vllm": {"pipeline_parallel_size": 2}}, "pipeline_parallel_size=2 gives ranks other layers"),
    ],
)
def test_what_cannot_be_carried_out_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        settled(**changes)


def test_an_open_loop_has_one_schedule_for_all_arms() -> None:
    setting = settled(arrivals="constant:rate=10")
    assert setting.times == pytest.approx([0.1 * i for i in range(len(setting.data.prompts))])
    assert settled().times is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"concurrency": 2}, "so concurrency=2 cannot hold; use concurrency=1"),
        ({"page_cache": "dropped"}, "so page_cache=dropped cannot hold; use page_cache=warm"),
        ({"cache_state": "natural"}, "so cache_state=natural cannot hold; use cache_state=primed"),
        ({"arrivals": "trace"}, "the workload has no arrival times"),
        ({"arrivals": "sometimes"}, "unknown arrivals 'sometimes'"),
    ],
)
def test_an_open_loop_refuses_what_it_cannot_keep(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        settled(**{"arrivals": "poisson:rate=2", **changes})


def test_what_only_a_sweep_does_is_told_by_everything_else() -> None:
    notes = settled(vary=["concurrency=1,2", "chunk_tokens=16,32"]).notes
    assert "it varies concurrency=1,2 and chunk_tokens=16,32, which only ttft sweep does" in " ".join(notes)
    assert not any("varies" in note for note in settled().notes)
