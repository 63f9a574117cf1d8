"""What vLLM may be asked for beside our connector: what works is let through, the rest is refused in one sentence."""

from types import SimpleNamespace
from typing import Any

import pytest

from harness.connector.supported import ACCEPTED, REFUSED, check_device, check_recovery, check_sinks, the_cache, window_of
from harness.core.errors import SetupError


def spec(kind: str, **more: Any) -> Any:
    return type(kind, (SimpleNamespace,), {})(block_size=16, **more)


def config_of(*specs: Any) -> Any:
    return SimpleNamespace(kv_cache_groups=[SimpleNamespace(kv_cache_spec=one, layer_names=["a", "b"]) for one in specs])


@pytest.mark.parametrize("kind", ACCEPTED)
def test_one_group_of_attention_is_served(kind: str) -> None:
    given = spec(kind)
    assert the_cache(config_of(given)) == (given, 2)


@pytest.mark.parametrize("kind", [*REFUSED, "SomethingOfNextYear"])
def test_other_kinds_are_refused_with_their_name(kind: str) -> None:
    with pytest.raises(SetupError, match=rf"^the model (keeps|has|attends|only encodes).*\({kind}\); choose a model") as told:
        the_cache(config_of(spec(kind)))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("specs", [(), ("FullAttentionSpec", "SlidingWindowSpec"), ("FullAttentionSpec", "MambaSpec")])
def test_several_groups_are_refused_since_vllm_ends_its_engine_when_a_load_fails(specs: tuple[str, ...]) -> None:
    with pytest.raises(SetupError, match=rf"the model has {len(specs)} groups of KV caches .*cannot recover"):
        the_cache(config_of(*map(spec, specs)))


def test_latent_attention_is_refused_on_a_cpu_where_prefill_does_not_read_the_cache() -> None:
    with pytest.raises(SetupError, match=r"wrong tokens behind a hit .*\(MLA\).*; choose a model"):
        check_device(spec("MLAAttentionSpec"), "cpu")
    check_device(spec("MLAAttentionSpec"), "cuda")
    check_device(spec("FullAttentionSpec"), "cpu")


def test_only_a_window_in_all_layers_counts_as_one() -> None:
    assert window_of(spec("SlidingWindowSpec", sliding_window=1024, extra_retained_tokens=3)) == 1027
    assert window_of(spec("SlidingWindowSpec", sliding_window=1024)) == 1024  # up to vLLM 0.30
    assert window_of(spec("FullAttentionSpec", sliding_window=1024)) == 0, "of layers that vLLM keeps whole beside others"


def vllm(policy: str, *, v2: bool = False, asynchronous: bool = False) -> Any:
    return SimpleNamespace(
        kv_transfer_config=SimpleNamespace(kv_load_failure_policy=policy),
        scheduler_config=SimpleNamespace(async_scheduling=asynchronous),
        use_v2_model_runner=v2,
    )


@pytest.mark.parametrize(
    ("config", "window", "why"),
    [
        (vllm("recompute", v2=True), 0, "model runner V2"),
        (vllm("recompute", v2=True, asynchronous=True), 512, "model runner V2"),
        (vllm("recompute", asynchronous=True), 0, "asynchronous scheduling"),
        (vllm("recompute"), 512, "sliding window"),
    ],
)
def test_recompute_is_refused_where_it_gives_wrong_tokens(config: Any, window: int, why: str) -> None:
    with pytest.raises(SetupError, match=rf"recompute gives wrong tokens .*{why}.*kv_load_failure_policy=fail"):
        check_recovery(config, window)


@pytest.mark.parametrize("config", [vllm("recompute"), vllm("fail", v2=True, asynchronous=True)])
def test_other_ways_to_fail_are_let_through(config: Any) -> None:
    check_recovery(config, 0)


def test_a_vllm_that_has_no_second_runner_is_fine() -> None:
    config = vllm("recompute")
    del config.use_v2_model_runner
    check_recovery(config, 0)


def layer(window: int, sinks: object = None) -> Any:
    return SimpleNamespace(sliding_window=window, sinks=sinks)


def test_sinks_beside_windows_of_several_sizes_need_unsplit_kv(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [layer(128, "sinks"), None, layer(-1, "sinks")]
    monkeypatch.delenv("VLLM_CPU_ATTN_SPLIT_KV", raising=False)
    with pytest.raises(SetupError, match=r"random tokens .* attention sinks and several windows; set VLLM_CPU_ATTN_SPLIT_KV=0$"):
        check_sinks(layers)
    check_sinks([layer(128, "sinks")] * 2)
    check_sinks([layer(128), layer(-1)])
    monkeypatch.setenv("VLLM_CPU_ATTN_SPLIT_KV", "0")
    check_sinks(layers)
