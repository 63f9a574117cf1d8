"""Ways of getting stored KV into the paged cache. One file an engine; ``base.py`` is the contract."""

from harness.core.registry import Registry
from harness.engines.base import Engine

ENGINES: Registry[Engine] = Registry("engine", "harness.engines", Engine)  # type: ignore[type-abstract]

__all__ = ["ENGINES", "Engine"]
