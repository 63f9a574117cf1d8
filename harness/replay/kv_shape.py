"""Bytes of KV of a model, from its configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.errors import UsageError
from harness.replay.models import configuration, layer_types

ELEMENT_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}

_OTHERWISE = ("kv_lora_rank", "layers_block_type", "attn_layer_period", "full_attention_interval", "hybrid_override_pattern")
"""Keys of models whose KV is not the same in every layer, or not keys and values."""


@dataclass(frozen=True, slots=True)
class KVShape:
    """Layers, and bytes of keys and values that one layer holds of one token."""

    layers: int
    token_bytes: int


def kv_shape(spec: str, dtype: str) -> KVShape:
    """Of the model that ``spec`` names (harness.replay.models.resolve), its KV held in ``dtype``, without tensor parallelism.

    Raises UsageError for a model whose KV is not keys and values in every layer alike, and as ``resolve`` does.
    """
    config = configuration(spec, dtype)
    text = config.get("text_config")
    config = {**config, **text} if isinstance(text, Mapping) else config
    kinds = layer_types(config) or {"full_attention"}
    window = config.get("sliding_window") and config.get("use_sliding_window", True)
    if kinds != {"full_attention"} or window or any(config.get(key) for key in _OTHERWISE):
        raise UsageError(f"the layers of model {spec} don't all hold keys and values alike; give --layers and --layer-kib")
    layers, heads = _number(spec, config, "num_hidden_layers"), _number(spec, config, "num_attention_heads")
    kv_heads = _number(spec, config, "num_key_value_heads") if config.get("num_key_value_heads") else heads
    width = _number(spec, config, "head_dim") if config.get("head_dim") else _number(spec, config, "hidden_size") // heads
    return KVShape(layers, 2 * kv_heads * width * ELEMENT_BYTES[dtype])


def _number(spec: str, config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if type(value) is not int or value < 1:
        raise UsageError(f"the configuration of model {spec} does not tell its '{key}'; give --layers and --layer-kib")
    return value
