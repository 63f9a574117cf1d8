"""How vLLM is started on a GPU and on a CPU, and which models are refused before it is."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.replay import in_process, models
from harness.replay.in_process import EngineSettings, engine_arguments

SETTINGS = EngineSettings("folder", "bfloat16", 512, 1 << 20, {})


def arguments(monkeypatch: pytest.MonkeyPatch, gpu: bool, **extra: Any) -> dict[str, Any]:
    monkeypatch.setattr(in_process, "uses_gpu", lambda: gpu)
    return engine_arguments(EngineSettings("folder", "bfloat16", 512, 1 << 20, {}, extra=extra))


def test_only_a_cpu_runs_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    assert arguments(monkeypatch, gpu=False)["enforce_eager"] is True
    assert arguments(monkeypatch, gpu=True)["enforce_eager"] is False


@pytest.mark.parametrize("gpu", [False, True])
def test_no_step_begins_before_the_tokens_of_the_last_one_leave(monkeypatch: pytest.MonkeyPatch, gpu: bool) -> None:
    assert arguments(monkeypatch, gpu)["async_scheduling"] is False


def test_several_vllms_fit_on_one_gpu_and_the_user_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    told = arguments(monkeypatch, gpu=True)
    assert told["gpu_memory_utilization"] * 8 < 1, "a base, a candidate and some peers start beside one another"
    assert told["kv_cache_memory_bytes"] == 1 << 20, "what a lane takes is said, so vLLM's share is only its check at start"
    assert "gpu_memory_utilization" not in arguments(monkeypatch, gpu=False)
    assert arguments(monkeypatch, gpu=True, gpu_memory_utilization=0.4)["gpu_memory_utilization"] == 0.4


def model(tmp_path: Path, **config: Any) -> models.Model:
    told = {"vocab_size": 100, "max_position_embeddings": 4096, **config}
    (tmp_path / "config.json").write_text(json.dumps(told))
    return models.resolve(str(tmp_path), "float32")


@pytest.mark.parametrize(
    "config",
    [
        {"layer_types": ["linear_attention", "full_attention"]},
        {"full_attention_interval": 4},
        {"layers_block_type": ["mamba", "attention"]},
        {"text_config": {"hybrid_override_pattern": "M-M*"}},
        {"mamba_d_state": 128},
    ],
)
def test_linear_attention_is_refused_before_vllm_loads_it(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"^model .* has layers of linear attention or Mamba.*; choose a model"):
        model(tmp_path, **config)


@pytest.mark.parametrize(
    ("config", "window"),
    [
        ({}, 0),
        ({"sliding_window": None}, 0),
        ({"sliding_window": 1024}, 1024),
        ({"sliding_window": 1024, "use_sliding_window": False}, 0),
        ({"sliding_window": 1024, "layer_types": ["sliding_attention", "full_attention"]}, 0),
        ({"sliding_window": 1024, "layer_types": ["sliding_attention", "sliding_attention"]}, 1024),
    ],
)
def test_a_window_counts_where_all_layers_have_it(tmp_path: Path, config: dict[str, Any], window: int) -> None:
    assert model(tmp_path, **config).window == window
