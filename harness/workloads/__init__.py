"""What is asked of the server. One file a workload; ``base.py`` is the contract."""

from harness.core.registry import Registry
from harness.workloads.base import Workload

WORKLOADS: Registry[Workload] = Registry("workload", "harness.workloads", Workload)  # type: ignore[type-abstract]

__all__ = ["WORKLOADS", "Workload"]
