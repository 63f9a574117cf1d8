"""The class that vLLM sees, between vLLM's own types but without an engine: both halves, as a scheduler and workers use them."""

import ast
import inspect
import os
import pickle
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed; make test installs it")

import torch
from standins import make_request
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorBase_V1
from vllm.v1.kv_cache_interface import FullAttentionSpec, SlidingWindowSpec
from vllm_classes import ATTENTION, BLOCK, BLOCKS, LAYERS, cache_config, caches_of, make, vllm_config, worker  # noqa: F401  a fixture

from harness.connector.step import Load, Step
from harness.connector.vllm_connector import SeenLoads, StepMetadata, TTFTConnector
from harness.core.chunks import LoadRequest
from harness.core.errors import SetupError
from harness.engines.base import Seen
from harness.experiment.span_log import SpanLogReader

pytestmark = pytest.mark.filterwarnings("default")


def test_both_halves_make_the_same_keys_of_what_the_worker_tells(worker: TTFTConnector, tmp_path: Path) -> None:
    scheduler = make(tmp_path, "SCHEDULER")
    before = dict(scheduler._side._identity)
    told = worker.get_handshake_metadata()
    assert told is not None
    scheduler.set_xfer_handshake_metadata({0: told})
    assert scheduler._side._identity == worker._identity
    assert worker._identity == {**before, "kv_layout": told.kv_layout, "kernel_block": BLOCK}


def test_ranks_whose_caches_differ_are_refused(worker: TTFTConnector, tmp_path: Path) -> None:
    scheduler, told = make(tmp_path, "SCHEDULER"), worker.get_handshake_metadata()
    assert told is not None
    other = type(told)("LHBNC", BLOCK)
    with pytest.raises(SetupError, match="the ranks have KV caches of different layouts"):
        scheduler.set_xfer_handshake_metadata({0: told, 1: other})


@pytest.mark.parametrize("ratio", [1, 4])
@pytest.mark.parametrize("layout", ["LBHNC", "LBNHC"])
def test_layout_and_kernel_block_are_those_of_the_cache_itself(tmp_path: Path, layout: str, ratio: int) -> None:
    """Whatever was asked for: a kernel may divide vLLM's block into smaller ones."""
    width = FullAttentionSpec(**ATTENTION).page_size_bytes // 4 // (2 * BLOCK)
    shape = (2, BLOCK // ratio, width) if layout == "LBHNC" else (BLOCK // ratio, 2, width)
    tensors = {f"layer.{i}": torch.zeros(ratio * BLOCKS, *shape) for i in range(LAYERS)}
    if layout == "LBNHC":
        tensors = {name: tensor.transpose(1, 2) for name, tensor in tensors.items()}
    one = make(tmp_path, "WORKER")
    one.register_kv_caches(tensors)
    told = one.get_handshake_metadata()
    assert told is not None
    assert (told.kv_layout, told.kernel_block) == (layout, BLOCK // ratio)
    one.shutdown()


def test_only_on_a_cpu_the_instruction_set_belongs_to_the_keys(tmp_path: Path) -> None:
    assert "instruction_set" in make(tmp_path, "SCHEDULER")._identity
    assert "instruction_set" not in make(tmp_path, "SCHEDULER", device="cuda")._identity


def test_a_window_in_all_layers_is_told_and_refuses_recompute(tmp_path: Path) -> None:
    spec = SlidingWindowSpec(**ATTENTION, sliding_window=20)
    assert make(tmp_path, "SCHEDULER", spec, policy="fail")._side._window == 20
    with pytest.raises(SetupError, match="sliding window"):
        make(tmp_path, "SCHEDULER", spec)


def test_layers_that_share_a_cache_are_one_layer(tmp_path: Path) -> None:
    one = make(tmp_path, "WORKER")
    caches = caches_of(FullAttentionSpec(**ATTENTION))
    one.register_kv_caches({**caches, "layer.7": caches["layer.1"]})
    assert one._layer_numbers == {"layer.0": 0, "layer.1": 1, "layer.7": 1}
    one.shutdown()


@pytest.mark.parametrize("order", ["as usual", "with speculative decoding"])
def test_a_load_that_fails_is_told_in_its_own_step_and_counted(worker: TTFTConnector, order: str) -> None:
    """With speculative decoding vLLM asks for the failures before it says that the step is over."""
    load = Load("chunkwise:pool=0", LoadRequest("r", ("0" * 32,), (3, 4)), "")  # type: ignore[arg-type]
    worker.bind_connector_metadata(StepMetadata(Step(loads=[load])))
    worker.start_load_kv(SimpleNamespace())
    for name in worker._layer_numbers:
        worker.wait_for_layer_load(name)
    if order == "as usual":
        worker.wait_for_save()
    assert worker.get_block_ids_with_load_errors() == {3, 4}
    stats = worker.get_kv_connector_stats()
    assert stats is not None and not stats.is_empty()
    if order != "as usual":
        worker.wait_for_save()
    assert worker.get_block_ids_with_load_errors() == set()
    assert worker.get_kv_connector_stats() is None


def test_of_several_ranks_the_slowest_counts() -> None:
    one, other = SeenLoads({"a": Seen(2, 1.0, 4.0, 9)}), SeenLoads({"a": Seen(2, 2.0, 3.0, 9), "b": Seen(1, 1.0, 1.0, 9)})
    both = pickle.loads(pickle.dumps(one)).aggregate(other)
    assert both.loads == {"a": Seen(2, 2.0, 4.0, 9), "b": Seen(1, 1.0, 1.0, 9)}


def test_what_a_load_showed_reaches_the_half_that_chooses(tmp_path: Path) -> None:
    one = make(tmp_path, "SCHEDULER")
    seen = Seen(2, 1.0, 2.0, 9)
    one.update_connector_output(SimpleNamespace(invalid_block_ids=set(), kv_connector_worker_meta=SeenLoads({"a": seen})))
    one.update_connector_output(SimpleNamespace(invalid_block_ids=set(), kv_connector_worker_meta=None))
    assert [list(loads) for loads in one._side._seen["a"].values()] == [[seen]]


def test_the_span_log_begins_with_how_vllm_really_runs(worker: TTFTConnector, tmp_path: Path) -> None:
    reader = SpanLogReader(tmp_path)
    reader.poll()
    assert reader.start["engine"]["enforce_eager"] is True
    assert reader.start["engine"]["model_runner"] == "V1"
    assert (reader.start["window"], reader.start["identity"]["kernel_block"]) == (0, BLOCK)


def test_a_request_of_odd_tokens_is_asked_of_the_class_too(tmp_path: Path) -> None:
    assert make(tmp_path, "SCHEDULER").get_num_new_matched_tokens(make_request("r", [2**33] * 64), 0) == (0, False)


# -- signatures ----------------------------------------------------------------------------------

OURS = [name for name, value in vars(TTFTConnector).items() if callable(getattr(value, "__func__", value)) and name[:1] != "_"]


def parameters(function: ast.FunctionDef) -> list[str]:
    return [argument.arg for argument in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]


def methods_of(source: str) -> dict[str, list[str]]:
    """Parameters by method of vLLM's base class."""
    [base] = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "KVConnectorBase_V1"]
    return {node.name: parameters(node) for node in base.body if isinstance(node, ast.FunctionDef)}


def compare(theirs: dict[str, list[str]]) -> None:
    """Each method that we replace takes at least what vLLM's takes, under the same names."""
    for name in OURS:
        ours = inspect.signature(getattr(TTFTConnector, name)).parameters
        wanted = [parameter for parameter in theirs.get(name, []) if parameter not in ("self", "cls")]
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in ours.values())
        assert name in theirs or name == "shutdown", f"vLLM never calls {name}"
        assert takes_all or all(parameter in ours for parameter in wanted), f"{name}{tuple(wanted)}"


def test_the_installed_vllm_calls_what_we_have() -> None:
    compare(methods_of(inspect.getsource(inspect.getmodule(KVConnectorBase_V1))))  # type: ignore[arg-type]


def test_a_vllm_without_a_cpu_build_calls_what_we_have() -> None:
    """TTFT_VLLM_WHEEL: a wheel that is at hand, for instance of pip download --no-deps vllm==0.33.0."""
    wheel = os.environ.get("TTFT_VLLM_WHEEL", "")
    if not wheel:
        pytest.skip("TTFT_VLLM_WHEEL names no wheel: pip download --no-deps vllm==0.33.0, 500 MB, brings one")
    with zipfile.ZipFile(wheel) as archive:
        source = archive.read("vllm/distributed/kv_transfer/kv_connector/v1/base.py").decode()
    compare(methods_of(source))
