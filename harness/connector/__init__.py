"""vLLM's KV connector interface on one side, engines and stores on the other.

    vllm serve MODEL --kv-transfer-config '{"kv_connector": "TTFTConnector",
        "kv_connector_module_path": "harness.connector", "kv_role": "kv_both",
        "kv_connector_extra_config": {"store": "file:///tmp/kv", "arms": ["layerwise:depth=4"]}}'

The class is loaded on first use, so that settings and parameters can be read without vLLM.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """Load the connector class when vLLM asks for it."""
    if name == "TTFTConnector":
        from harness.connector.vllm_connector import TTFTConnector

        return TTFTConnector
    raise AttributeError(f"module 'harness.connector' has no attribute {name!r}")
