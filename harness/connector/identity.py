"""What makes KV bytes usable: the root of the key chain."""

from typing import TYPE_CHECKING

from harness.core.chunks import VERSION, KVGeometry
from harness.replay.models import fingerprint, instruction_set

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def identity(config: "VllmConfig", geometry: KVGeometry, layout: str = "chunk") -> dict[str, object]:
    """What both halves of the connector know by which two caches of the same tokens may differ, but for namespace and rank.

    The inside of a CPU block is packed for the instruction set that vLLM picked, so that and vLLM's
    version belong to it. ``layout``: the store's.
    """
    import vllm

    device = config.device_config.device_type
    return {
        "format": VERSION,
        "model": fingerprint(config.model_config.model),
        "revision": config.model_config.revision or "",
        "dtype": str(config.model_config.dtype),
        "cache_dtype": str(config.cache_config.cache_dtype),
        "geometry": geometry.digest().hex(),
        "device": device,
        **({"instruction_set": instruction_set()} if device == "cpu" else {}),
        "vllm": vllm.__version__,
        "world": config.parallel_config.world_size,
        **({"layout": layout} if layout != "chunk" else {}),
    }
