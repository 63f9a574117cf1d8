"""A peer's connector with its calls timed: it stays the same connector, and what was noted is true."""

import importlib
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from servers import lacking

pytestmark = [pytest.mark.filterwarnings("default")]  # those of importing vLLM are not ours to mend

CONFIG = SimpleNamespace(parallel_config=SimpleNamespace(rank=1))
LOOKED = {"request": "r", "num_computed_tokens": 0}


class Real:
    """A connector that answers, and counts how often it was asked."""

    knows = 7

    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any = None) -> None:
        self.asked: list[str] = []
        self.found: tuple[int | None, bool] = (512, False)

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int | None, bool]:
        self.asked.append(f"lookup {request}")
        return self.found

    def build_connector_meta(self, scheduler_output: Any) -> str:
        return f"plan of {scheduler_output}"

    def bind_connector_metadata(self, connector_metadata: Any) -> None:
        self.asked.append(f"bind {connector_metadata}")

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        self.asked.append("load")

    def wait_for_layer_load(self, layer_name: str) -> None:
        self.asked.append(layer_name)

    def wait_for_save(self) -> None:
        self.asked.append("save")

    def shutdown(self) -> None:
        self.asked.append("shutdown")


@pytest.fixture(scope="module")
def module() -> Any:
    """Which only vLLM's processes import otherwise."""
    try:
        return importlib.import_module("harness.connector.peers.adapters.traced")
    except ImportError as error:
        return lacking(f"vLLM ({error})", "make test installs one")


Make = Callable[[str], Any]


@pytest.fixture
def make(module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """A traced connector for a role."""
    monkeypatch.setenv(module.PEER_FOLDER, str(tmp_path))
    monkeypatch.setitem(sys.modules, "a_module_of_somebody", ModuleType("a_module_of_somebody"))
    sys.modules["a_module_of_somebody"].Real = Real  # type: ignore[attr-defined]
    module.traced.cache_clear()
    kind = getattr(module, "Real@a_module_of_somebody")
    made: list[Any] = []

    def one(role: str) -> Any:
        made.append(kind(CONFIG, getattr(module.KVConnectorRole, role), kv_cache_config=None))
        return made[-1]

    yield one
    for connector in made:
        connector.shutdown()
        assert connector.asked[-1] == "shutdown"


def records(folder: Path, process: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"worker-{process}.jsonl").read_text().splitlines()]


def step(worker: Any, *, loads_first: bool = True, layers: int = 3, tokens: int = 64) -> None:
    """As vLLM goes through one: loads before a forward that needs them, after any other."""
    context = SimpleNamespace(attn_metadata={"layer0": SimpleNamespace(num_actual_tokens=tokens)})
    worker.bind_connector_metadata("m")
    if loads_first:
        worker.start_load_kv(context)
    for layer in range(layers):
        worker.wait_for_layer_load(f"layer{layer}")
    if not loads_first:
        worker.start_load_kv(context)
    worker.wait_for_save()


def test_it_is_still_the_connector(make: Make) -> None:
    worker = make("WORKER")
    assert isinstance(worker, Real)
    assert (type(worker).__name__, type(worker).knows) == ("TracedReal", 7)
    step(worker)
    assert worker.asked == ["bind m", "load", "layer0", "layer1", "layer2", "save"]
    scheduler = make("SCHEDULER")
    assert scheduler.get_num_new_matched_tokens(**LOOKED) == (512, False)
    assert scheduler.build_connector_meta("step") == "plan of step"
    assert scheduler.asked == ["lookup r"]


def test_a_forward_with_loads_is_written_in_the_step_after(make: Make, tmp_path: Path) -> None:
    worker = make("WORKER")
    step(worker)
    assert [one["kind"] for one in records(tmp_path, "1")] == ["start"]  # no first token waits for a file
    worker.bind_connector_metadata("m")
    start, forward = records(tmp_path, "1")
    assert start["torch_threads"] > 0
    assert (forward["kind"], forward["rank"], forward["tokens"]) == ("forward", 1, 64)
    assert [(kind, layer) for kind, layer, _, _ in forward["spans"]] == [
        ("wait", -1), ("wait", 0), ("wait", 1), ("wait", 2), ("forward", -1),
    ]  # fmt: skip
    ends = [end for _, _, _, end in forward["spans"]]
    assert ends == sorted(ends)
    assert forward["start_s"] == forward["spans"][0][2]
    assert forward["spans"][-1][2] == forward["spans"][0][3]  # the forward begins when the loads let it
    assert forward["end_s"] == forward["spans"][-1][3]


def test_no_first_token_waits_for_what_a_later_one_left_to_write(make: Make, tmp_path: Path) -> None:
    worker = make("WORKER")
    step(worker)
    step(worker, loads_first=False, tokens=1)
    before = records(tmp_path, "1")
    assert [one.get("tokens") for one in before] == [None, 64, 1]
    worker.bind_connector_metadata("m")  # of the next request
    assert records(tmp_path, "1") == before


def test_loads_that_begin_after_a_forward_are_none_of_its_waits(make: Make, tmp_path: Path) -> None:
    worker = make("WORKER")
    step(worker, loads_first=False)
    step(worker, layers=0)  # asynchronous loads have steps without a forward
    step(worker, layers=0, loads_first=False)
    worker.bind_connector_metadata("m")
    [_, forward] = records(tmp_path, "1")
    assert [(kind, layer) for kind, layer, _, _ in forward["spans"]][:2] == [("wait", 0), ("wait", 1)]


def test_lookups_are_written_when_the_next_step_is_planned(make: Make, tmp_path: Path) -> None:
    scheduler = make("SCHEDULER")
    scheduler.found = (None, False)
    scheduler.get_num_new_matched_tokens(**LOOKED)
    scheduler.build_connector_meta("step")
    scheduler.found = (512, True)
    scheduler.get_num_new_matched_tokens(**LOOKED)
    scheduler.build_connector_meta("step")
    assert [(one["hit_tokens"], one["between_steps"]) for one in records(tmp_path, "scheduler")] == [(None, False)]
    scheduler.build_connector_meta("step")
    found = records(tmp_path, "scheduler")
    assert [(one["hit_tokens"], one["between_steps"]) for one in found] == [(None, False), (512, True)]
    assert all(one["start_s"] <= one["end_s"] for one in found)


@pytest.mark.parametrize(
    ("metadata", "tokens"),
    [
        ({"a": SimpleNamespace(num_actual_tokens=7)}, 7),
        ([{"a": SimpleNamespace(num_actual_tokens=8)}], 8),
        (SimpleNamespace(num_actual_tokens=9), 9),
        (None, None),
        ({}, None),
        ([], None),
        ({"a": SimpleNamespace()}, None),
    ],
)
def test_how_many_tokens_a_forward_computes(module: Any, metadata: Any, tokens: int | None) -> None:
    assert module._tokens(SimpleNamespace(attn_metadata=metadata)) == tokens


def test_a_real_one_that_fails_at_its_start_can_still_be_shut_down(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some do so themselves when they are deleted."""
    left: list[Any] = []

    def fail(connector: Any, *args: Any, **kwargs: Any) -> None:
        connector.asked = []
        left.append(connector)
        raise RuntimeError("no such server")

    monkeypatch.setattr(Real, "__init__", fail)
    with pytest.raises(RuntimeError, match="no such server"):
        make("WORKER")
    left[0].shutdown()
    assert left[0].asked == ["shutdown"]


def test_an_older_interface_stays_visible(make: Make, module: Any) -> None:
    kind = getattr(module, "Real@a_module_of_somebody")
    assert list(inspect.signature(kind).parameters) == ["vllm_config", "role", "kv_cache_config"]


def test_nobody_reads_nothing_is_written(make: Make, module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(module.PEER_FOLDER)
    step(make("WORKER"))
    assert list(tmp_path.iterdir()) == []


def test_a_class_that_is_not_there_is_named(make: Make, module: Any) -> None:
    with pytest.raises(ImportError, match="the module a_module_of_somebody has no class Unreal"):
        getattr(module, "Unreal@a_module_of_somebody")


def test_a_connector_that_vllm_knows_is_found_by_its_name(module: Any) -> None:
    kind = getattr(module, "ExampleConnector")  # noqa: B009  (as vLLM asks)
    factory = module.KVConnectorFactory
    assert issubclass(kind, factory.get_connector_class_by_name("ExampleConnector"))
    with pytest.raises(ValueError, match="NoSuchConnector"):
        getattr(module, "NoSuchConnector")  # noqa: B009
