"""Bytes of KV from a model's configuration."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.replay.kv_shape import KVShape, kv_shape

LLAMA = {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096}


def folder(tmp_path: Path, **config: Any) -> str:
    (tmp_path / "config.json").write_text(json.dumps(config))
    return str(tmp_path)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_builtin_model_has_2_kib_a_token_and_layer_and_is_not_written(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kv_shape("builtin", dtype) == KVShape(24, 2048)
    assert kv_shape("builtin:layers=3,kv_heads=2", dtype).layers == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "token_bytes"),
    [
        ({}, 2 * 8 * 128 * 2),
        ({"num_key_value_heads": None}, 2 * 32 * 128 * 2),
        ({"head_dim": 64}, 2 * 8 * 64 * 2),
        ({"sliding_window": 4096, "use_sliding_window": False}, 2 * 8 * 128 * 2),
        ({"layer_types": ["full_attention"] * 32}, 2 * 8 * 128 * 2),
    ],
)
def test_a_folders_configuration_is_read(tmp_path: Path, change: dict[str, Any], token_bytes: int) -> None:
    assert kv_shape(folder(tmp_path, **LLAMA | change), "bfloat16") == KVShape(32, token_bytes)


def test_the_text_part_counts(tmp_path: Path) -> None:
    assert kv_shape(folder(tmp_path, text_config=LLAMA), "float16").layers == 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kv_lora_rank": 512}, "don't all hold keys and values alike; give --layers and --layer-kib"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "alike"),
        ({"sliding_window": 4096}, "alike"),
        ({"num_hidden_layers": None}, "does not tell its 'num_hidden_layers'"),
        ({"num_key_value_heads": "eight"}, "does not tell its 'num_key_value_heads'"),
    ],
)
def test_what_cannot_be_told_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        kv_shape(folder(tmp_path, **LLAMA | change), "bfloat16")


def test_a_folder_or_dtype_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no model folder \./nowhere"):
        kv_shape("./nowhere", "bfloat16")
    with pytest.raises(UsageError, match="unknown dtype 'int8'"):
        kv_shape("builtin", "int8")
