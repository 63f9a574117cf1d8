"""From an experiment to the engine that serves it: in this process for ``ttft compare``, in its own for ``ttft serve``."""

from pathlib import Path

from harness.experiment.setting import Setting
from harness.replay.in_process import EngineSettings


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
