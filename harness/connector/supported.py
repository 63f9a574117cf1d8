"""What of vLLM's configurations the connector can serve rightly; everything else is refused at start, in one sentence."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from harness.core.errors import SetupError
from harness.replay.models import SPLIT_KV

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.kv_cache_interface import KVCacheConfig, KVCacheSpec

REFUSED = {
    "MambaSpec": "keeps the state of a linear attention, which is no KV of single tokens",
    "ChunkedLocalAttentionSpec": "has chunked local attention in all layers",
    "CrossAttentionSpec": "attends to an encoder, whose input is no prefix of tokens",
    "EncoderOnlyAttentionSpec": "only encodes and has no KV cache",
    "UniformTypeKVCacheSpecs": "has layers whose KV differs in size (as an indexer of sparse attention has)",
}
"""Kinds of KV cache by the name of vLLM's class, and what is said of a model that has them."""

ACCEPTED = ("FullAttentionSpec", "MLAAttentionSpec", "SlidingWindowSpec")


def the_cache(config: "KVCacheConfig") -> tuple["KVCacheSpec", int]:
    """The one kind of KV cache that the model has, and its number of layers. Raises SetupError.

    Several groups are not for us: vLLM's scheduler ends the engine when a load within a step fails and there is more than
    one (vllm/v1/core/sched/scheduler.py, _handle_invalid_blocks), so a damaged chunk would take the server down.
    """
    groups = config.kv_cache_groups
    if len(groups) != 1:
        kinds = ", ".join(sorted({type(group.kv_cache_spec).__name__ for group in groups})) or "none"
        raise SetupError(
            f"the model has {len(groups)} groups of KV caches ({kinds}), and vLLM cannot recover one of several from a failed "
            "load; choose a model that has one group, or whose groups vLLM joins with --disable-hybrid-kv-cache-manager"
        )
    spec = groups[0].kv_cache_spec
    name = type(spec).__name__
    if name in REFUSED or name not in ACCEPTED:
        why = REFUSED.get(name, "has a KV cache of a kind that was never tried")
        raise SetupError(f"the model {why} ({name}); choose a model with full attention, a sliding window, or MLA")
    return spec, len(groups[0].layer_names)


def check_device(spec: "KVCacheSpec", device: str) -> None:
    """Raises SetupError where vLLM computes wrong tokens behind a hit: MLA on a CPU, where it turns its own prefix cache off."""
    if device == "cpu" and type(spec).__name__ == "MLAAttentionSpec":
        raise SetupError(
            "vLLM's CPU build gives wrong tokens behind a hit of a model with latent attention (MLA), as its prefill does not "
            "read what is cached; choose a model with other attention, or a GPU"
        )


def check_sinks(attentions: Iterable[Any]) -> None:
    """Raises SetupError where vLLM's CPU attention gives other tokens at each try: for layers with attention sinks.

    With windows of several sizes, as in gpt-oss, its layers are in one group beside a connector, and the group's plan for
    splitting KV over threads knows no window (cpu_attn.py, _group_sliding_window). Without a connector each window has a
    group, and is right. ``attentions``: vLLM's implementation of each layer.
    """
    attentions = [one for one in attentions if hasattr(one, "sliding_window")]
    windows = {one.sliding_window for one in attentions}
    sinks = any(getattr(one, "sinks", None) is not None for one in attentions)
    if sinks and len(windows) > 1 and os.environ.get(SPLIT_KV) != "0":
        raise SetupError(
            f"vLLM's CPU build gives random tokens for a model with attention sinks and several windows; set {SPLIT_KV}=0"
        )


def window_of(spec: "KVCacheSpec") -> int:
    """Tokens that vLLM keeps of a request, where it frees those behind a sliding window; 0 where it keeps all."""
    if type(spec).__name__ != "SlidingWindowSpec":
        return 0
    return int(spec.sliding_window) + int(getattr(spec, "extra_retained_tokens", 0))


def check_recovery(config: "VllmConfig", window: int) -> None:
    """Raises SetupError where vLLM's ``recompute`` after a failed load gives wrong tokens, silently."""
    if config.kv_transfer_config.kv_load_failure_policy != "recompute":
        return
    instead = "start with kv_load_failure_policy=fail"
    if getattr(config, "use_v2_model_runner", False):
        raise SetupError(
            "kv_load_failure_policy=recompute gives wrong tokens after a failed load under vLLM's model runner V2 "
            f"(vLLM issue 49250); {instead}, or with VLLM_USE_V2_MODEL_RUNNER=0 and --no-async-scheduling"
        )
    if config.scheduler_config.async_scheduling:
        raise SetupError(
            "kv_load_failure_policy=recompute gives wrong tokens after a failed load under asynchronous scheduling, as the "
            f"next step is under way by then; {instead}, or with --no-async-scheduling"
        )
    if window:
        raise SetupError(
            "kv_load_failure_policy=recompute gives wrong tokens after a failed load of a model with a sliding window in all "
            f"layers, as the KV before the failed block is gone; {instead}"
        )
