"""From an experiment to the engine that serves it: in this process for ``ttft compare``, in its own for ``ttft serve``."""

from dataclasses import replace
from pathlib import Path

from harness.experiment.setting import Setting
from harness.peers.base import Peer
from harness.replay.in_process import EngineSettings


def peer_settings(setting: Setting, peer: Peer) -> EngineSettings:
    """How to start vLLM with a peer's connector: the same model, the same memory, the same limits as with ours."""
    ours = engine_settings(setting, setting.dtype, setting.experiment.kv_cache_gib, Path(), save=False)
    return replace(ours, connector={}, peer={"kv_load_failure_policy": ours.load_failure_policy, **peer.transfer()})


def engine_settings(setting: Setting, dtype: str, kv_cache_gib: float, trace: Path, *, save: bool) -> EngineSettings:
    """How to start vLLM with the connector. ``save``: whether requests that don't say so are saved."""
    experiment = setting.experiment
    return EngineSettings(
        model=setting.model.path,
        dtype=dtype,
        max_model_len=setting.max_model_len,
        kv_cache_bytes=int(kv_cache_gib * 2**30),
        connector={
            "store": experiment.store,
            "arms": setting.served_arms,
            "chunk_tokens": experiment.chunk_tokens,
            "layout": experiment.layout,
            "save": save,
            "trace": str(trace.resolve()),
        },
        load_failure_policy=experiment.load_failure_policy,
        tensor_parallel=experiment.tensor_parallel,
        extra=experiment.vllm,
    )
