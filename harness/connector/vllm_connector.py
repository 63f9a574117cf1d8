"""The class that vLLM sees. It only translates: the work is in scheduler_side.py and worker_side.py."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from vllm.distributed import get_tp_group
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorHandshakeMetadata,
    KVConnectorMetadata,
    KVConnectorRole,
    KVConnectorWorkerMetadata,
)

from harness.connector.counts import FAILED, Counts, CountsMetric, Health
from harness.connector.identity import identity
from harness.connector.scheduler_side import SchedulerSide
from harness.connector.settings import SPLIT_OTHERWISE, check_chunk, check_ranks, parse_settings
from harness.connector.step import Step
from harness.connector.supported import check_device, check_recovery, check_sinks, the_cache, window_of
from harness.connector.worker_side import WorkerSide
from harness.core.chunks import KVGeometry
from harness.core.errors import SetupError
from harness.core.processes import end_with_owner
from harness.core.spans import SpanLog
from harness.engines.base import Seen
from harness.engines.paged import PagedKV
from harness.stores import open_store
from harness.stores.base import Store
from harness.stores.layered import in_layout
from harness.stores.skipping import Skipping

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.forward_context import ForwardContext
    from vllm.v1.attention.backend import AttentionMetadata
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request


class StepMetadata(KVConnectorMetadata):  # type: ignore[misc]
    """A Step on its way from the scheduler to the workers."""

    def __init__(self, step: Step) -> None:
        self.step = step


@dataclass
class CacheShape(KVConnectorHandshakeMetadata):  # type: ignore[misc]
    """What only a worker knows of its cache, and what the scheduler's half needs for the keys."""

    kv_layout: str
    kernel_block: int


@dataclass
class SeenLoads(KVConnectorWorkerMetadata):  # type: ignore[misc]
    """What a step's loads showed, by arm: on its way from the workers to the scheduler."""

    loads: Mapping[str, Seen]

    def aggregate(self, other: KVConnectorWorkerMetadata) -> KVConnectorWorkerMetadata:
        """Of several ranks the slowest: they work side by side, and the others wait for it."""
        theirs = other.loads if isinstance(other, SeenLoads) else {}
        return SeenLoads({**self.loads, **{arm: slower(seen, self.loads.get(arm, seen)) for arm, seen in theirs.items()}})


def slower(one: Seen, other: Seen) -> Seen:
    """The longer times of two ranks of one step."""
    return replace(one, load_s=max(one.load_s, other.load_s), compute_s=max(one.compute_s, other.compute_s))


class TTFTConnector(KVConnectorBase_V1):  # type: ignore[misc]
    """All arms over one store; each request picks its arm (harness/connector/settings.py)."""

    def __init__(self, vllm_config: "VllmConfig", role: KVConnectorRole, kv_cache_config: "KVCacheConfig") -> None:
        end_with_owner()
        super().__init__(vllm_config=vllm_config, role=role, kv_cache_config=kv_cache_config)
        self._settings, self._arms = parse_settings(vllm_config.kv_transfer_config.kv_connector_extra_config)
        check_ranks({name: getattr(vllm_config.parallel_config, name) for name in SPLIT_OTHERWISE})
        spec, layers = the_cache(kv_cache_config)
        check_device(spec, vllm_config.device_config.device_type)
        self._window = window_of(spec)
        check_recovery(vllm_config, self._window)
        self._block_tokens = spec.block_size
        chunk_blocks = check_chunk(self._settings.chunk_tokens, self._block_tokens)
        dtype = str(spec.dtype).removeprefix("torch.")
        self._geometry = KVGeometry(layers, self._block_tokens, spec.page_size_bytes, chunk_blocks, dtype)
        self._identity = identity(vllm_config, self._geometry, self._settings.layout)
        self._worker: WorkerSide | None = None
        self._scheduler: SchedulerSide | None = None
        self._layer_numbers: dict[str, int] = {}
        self._step: Step | None = None
        self._shape: CacheShape | None = None
        self._failed_blocks = 0
        self._health: Health | None = None
        if role == KVConnectorRole.SCHEDULER:
            world = vllm_config.parallel_config.world_size
            store = self._open_store()
            # With a queue of batches a step begins before the tokens of the one before are handed out.
            proof_steps = vllm_config.max_concurrent_batches
            self._scheduler = SchedulerSide(
                self._settings, self._arms, store, self._identity, chunk_blocks, world, self._window, proof_steps,
                self._geometry, vllm_config.scheduler_config.max_num_batched_tokens,
            )  # fmt: skip

    def _open_store(self) -> Store:
        store = Skipping(open_store(self._settings.store))
        self._health = Health(store)
        return store

    @classmethod
    def requires_piecewise_for_cudagraph(cls, extra_config: dict[str, Any]) -> bool:
        """True for every arm, or the arms would run under different graph modes."""
        return True

    @property
    def requires_kv_delivery(self) -> bool:
        """False: a save that is lost is a miss later."""
        return False

    # -- worker ----------------------------------------------------------------------------------

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Open the store and the engines over vLLM's caches."""
        parallel = self._vllm_config.parallel_config
        tensors: dict[int, torch.Tensor] = {}
        for name, tensor in kv_caches.items():  # layers may share one cache
            tensors.setdefault(tensor.data_ptr(), tensor)
            self._layer_numbers[name] = list(tensors).index(tensor.data_ptr())
        cache = PagedKV(list(tensors.values()), self._geometry.chunk_blocks, self._block_tokens, self._kv_cache_config.num_blocks)
        if cache.geometry != self._geometry:
            raise SetupError(
                f"vLLM's KV cache is {cache.geometry}, its configuration says {self._geometry}; this build is not supported"
            )
        if cache.memory == "host":
            layers = self._vllm_config.compilation_config.static_forward_context
            check_sinks(getattr(layers.get(name), "impl", None) for name in kv_caches)
        self._shape = CacheShape(cache.layout, cache.kernel_block)
        self._identity |= asdict(self._shape)
        store = self._open_store()
        span_log = SpanLog(self._settings.span_log, f"worker-{parallel.rank}")
        start = {
            "kind": "start",
            "geometry": asdict(cache.geometry),
            "identity": self._identity,
            "blocks": cache.blocks,
            "direct": cache.memory in store.fills,
            "torch_threads": torch.get_num_threads(),
            "window": self._window,
            "save_threads": self._settings.save_threads,
            "engine": engine_facts(self._vllm_config),
        }
        span_log.write(start)
        self._worker = WorkerSide(
            self._arms, in_layout(store, start), cache, span_log, parallel.rank, parallel.world_size,
            on_any_rank=_on_any_rank, save_threads=self._settings.save_threads,
        )  # fmt: skip

    def bind_connector_metadata(self, connector_metadata: KVConnectorMetadata) -> None:
        """Keep the step; an idle one costs nothing afterwards."""
        super().bind_connector_metadata(connector_metadata)
        self._step = connector_metadata.step if isinstance(connector_metadata, StepMetadata) else None
        if self._worker is not None and self._step is not None:
            self._worker.before(self._step)

    def start_load_kv(self, forward_context: "ForwardContext", **kwargs: Any) -> None:
        """Begin the loads of the step. Where it has none this comes after the forward and does nothing."""
        if self._worker is not None and self._step is not None:
            self._worker.start_load(self._step)

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Just before the attention of a layer."""
        if self._step is not None and (self._step.loads or self._step.joins) and self._worker is not None:
            self._worker.wait_layer(self._layer_numbers[layer_name])

    def save_kv_layer(self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: "AttentionMetadata", **kwargs: Any) -> None:
        """Chunks are saved whole, after the forward."""

    def wait_for_save(self) -> None:
        """After the forward."""
        if self._worker is not None and self._step is not None and not self._step.idle:
            self._worker.finish(self._step)
        self._step = None

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        """Requests whose loads between steps release them; nothing is ever sent."""
        if self._step is not None and not self._step.tokens:  # vLLM 0.29 does not say that such a step is over
            self.wait_for_save()
        return None, (self._worker.released() if self._worker is not None else None) or None

    def get_block_ids_with_load_errors(self) -> set[int]:
        """Blocks that vLLM has to compute, or whose request it has to fail, as it is configured."""
        invalid = self._worker.take_invalid() if self._worker is not None else set()
        self._failed_blocks += len(invalid)
        return invalid

    def get_kv_connector_stats(self) -> Counts | None:
        """What this half has counted since the last call; None where there was nothing."""
        failed, self._failed_blocks = self._failed_blocks, 0
        health = self._health.take() if self._health is not None else {}
        return Counts.of({FAILED: failed, **health}, self._scheduler.take_choices() if self._scheduler is not None else None)

    def build_connector_worker_meta(self) -> SeenLoads | None:
        """What the loads since the last call showed; None where there were none of an arm that learns from them."""
        seen = self._worker.take_seen() if self._worker is not None else {}
        return SeenLoads(seen) if seen else None

    def get_handshake_metadata(self) -> CacheShape | None:
        """For the scheduler's half, which asks for it once before the first request."""
        return self._shape

    def shutdown(self) -> None:
        """Stop threads and close the store."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> Counts:
        """As it came from the workers."""
        return Counts(data=data or {})

    @classmethod
    def build_prom_metrics(cls, vllm_config: Any, metric_types: Any, labelnames: Any, per_engine_labelvalues: Any) -> Any:
        """The metrics at /metrics."""
        return CountsMetric(vllm_config, metric_types, labelnames, per_engine_labelvalues)

    # -- scheduler -------------------------------------------------------------------------------

    def set_xfer_handshake_metadata(self, metadata: Mapping[int, KVConnectorHandshakeMetadata]) -> None:
        """What the workers told of their caches, by rank. Raises SetupError where they differ."""
        shapes = {rank: shape for rank, shape in metadata.items() if isinstance(shape, CacheShape)}
        if len({tuple(asdict(shape).items()) for shape in shapes.values()}) > 1:
            raise SetupError(f"the ranks have KV caches of different layouts: {shapes}; give all of them the same kind of GPU")
        for shape in shapes.values():
            self._side.know(asdict(shape))

    def get_num_new_matched_tokens(self, request: "Request", num_computed_tokens: int) -> tuple[int | None, bool]:
        """The hit, and whether it is loaded between steps."""
        hit = self._side.matched_tokens(request, num_computed_tokens)
        return hit, hit > 0 and self._side.between_steps(request)

    def update_state_after_alloc(self, request: "Request", blocks: "KVCacheBlocks", num_external_tokens: int) -> None:
        """Blocks are reserved."""
        self._side.allocated(request, num_external_tokens, blocks.get_block_ids()[0] if num_external_tokens else ())

    def build_connector_meta(self, scheduler_output: "SchedulerOutput") -> KVConnectorMetadata:
        """The plan of the step."""
        return StepMetadata(self._side.plan(scheduler_output))

    def update_connector_output(self, connector_output: "KVConnectorOutput") -> None:
        """What the workers report."""
        if connector_output.invalid_block_ids:
            self._side.load_errors(set(connector_output.invalid_block_ids))
        if isinstance(connector_output.kv_connector_worker_meta, SeenLoads):
            self._side.saw(connector_output.kv_connector_worker_meta.loads)

    def request_finished(self, request: "Request", block_ids: list[int]) -> tuple[bool, Mapping[str, Any] | None]:
        """Nothing is sent after the end, so the blocks are free at once; a load that still writes to them is waited for by
        the workers, before they are written again."""
        self._side.finished(request)
        return False, None

    @property
    def _side(self) -> SchedulerSide:
        if self._scheduler is None:
            raise SetupError(
                "vLLM asked the worker's half of the connector a scheduler's question; this version is not supported"
            )
        return self._scheduler


def _on_any_rank(flag: bool) -> bool:
    """Whether a rank of this one's tensor-parallel group gives true; every one of them has to ask. Without others, ``flag``."""
    group = get_tp_group()
    if group.world_size == 1:
        return flag
    flags = torch.tensor([flag], dtype=torch.int32)
    torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX, group=group.cpu_group)
    return bool(flags.item())


def engine_facts(config: "VllmConfig") -> dict[str, Any]:
    """How vLLM really runs, whatever was asked for: on that its times depend."""
    return {
        "enforce_eager": bool(config.model_config.enforce_eager),
        "cuda_graphs": getattr(config.compilation_config.cudagraph_mode, "name", "NONE"),
        "async_scheduling": bool(config.scheduler_config.async_scheduling),
        "model_runner": "V2" if getattr(config, "use_v2_model_runner", False) else "V1",
        "load_failure_policy": config.kv_transfer_config.kv_load_failure_policy,
        "attention_backend": getattr(config.attention_config.backend, "name", "") or "chosen by vLLM",
        "gpu_memory_utilization": float(config.cache_config.gpu_memory_utilization),
    }
