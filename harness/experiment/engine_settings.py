"""From an experiment to the engine that serves it: in this process for ``ttft compare``, in its own for ``ttft serve``."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.connector.peers.base import Peer
from harness.experiment.plan import Setting
from harness.replay.in_process import EngineSettings

TRACED = "harness.connector.peers.adapters.traced"


def peer_settings(setting: Setting, peer: Peer) -> EngineSettings:
    """How to start vLLM with a peer's connector: the same model, the same memory, the same limits as with ours."""
    ours = engine_settings(setting, setting.dtype, setting.experiment.kv_cache_gib, Path(), save=False)
    return replace(ours, connector={}, peer={"kv_load_failure_policy": ours.load_failure_policy, **_traced(peer.transfer())})


def _traced(transfer: dict[str, Any]) -> dict[str, Any]:
    """The same connector, whose calls are timed. vLLM knows MultiConnector by its name, so that one stays as it is."""
    name, module = transfer["kv_connector"], transfer.get("kv_connector_module_path")
    if name == "MultiConnector":
        return transfer
    return {**transfer, "kv_connector": f"{name}@{module}" if module else name, "kv_connector_module_path": TRACED}


def engine_settings(setting: Setting, dtype: str, kv_cache_gib: float, span_log: Path, *, save: bool) -> EngineSettings:
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
            "span_log": str(span_log.resolve()),
        },
        load_failure_policy=experiment.load_failure_policy,
        tensor_parallel=experiment.tensor_parallel,
        extra=experiment.vllm,
    )
