"""Tiny models of today's kinds with random weights of a real scale, so that wrong KV shows in the tokens."""

from pathlib import Path
from typing import Any

COMMON: dict[str, Any] = {
    "vocab_size": 2048,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 4096,
    "initializer_range": 0.1,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
WINDOW = 300

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "full attention (Qwen3)": ("qwen3", {}),
    "mixture of experts (Qwen3-MoE)": ("qwen3_moe", EXPERTS),
    "sliding window in all layers (Mistral)": ("mistral", {"sliding_window": WINDOW}),
    "alternating with full attention (Gemma 3)": (
        "gemma3_text",
        {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"] * 2, "query_pre_attn_scalar": 32},
    ),
    "alternating with sinks (gpt-oss)": (
        "gpt_oss",
        {
            "sliding_window": 128,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
        },
    ),
    "latent attention (DeepSeek-V2)": (
        "deepseek_v2",
        {
            "kv_lora_rank": 512,  # and 64: the one width that the CPU's kernel has
            "q_lora_rank": None,
            "qk_nope_head_dim": 32,
            "qk_rope_head_dim": 64,
            "v_head_dim": 32,
            "first_k_dense_replace": 1,
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 64,
            "num_key_value_heads": 4,
            "n_group": 1,
            "topk_group": 1,
            "head_dim": 64,
        },
    ),
}
"""By name: transformers' model type, and what its configuration has beside COMMON."""


def write(kind: str, folder: Path) -> str:
    """Write the model of this kind and return its folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    model_type, more = KINDS[kind]
    config = AutoConfig.for_model(model_type, **{**COMMON, **more})
    torch.manual_seed(0)
    maker: Any = AutoModelForCausalLM
    model = maker.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.1)
            elif name.endswith("sinks"):
                parameter.normal_(0.0, 1.0)
    model.save_pretrained(folder)
    return str(folder)
