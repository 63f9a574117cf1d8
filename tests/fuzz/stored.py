"""Parsers of files: results folders, sweeps, histories, calibrations, span logs, models, traces."""

import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from checking import LONGEST_MESSAGE, Parser
from foreign_files import aiperf, guidellm, vllm_bench
from histories import rows
from trace_formats import FORMATS, Format

from harness import report
from harness.core.errors import RunError, TtftError
from harness.core.text import printable
from harness.experiment.lanes.combine import CsvTail, LaneRows
from harness.experiment.settings import merge
from harness.experiment.span_log import PeerLogReader, SpanLogReader
from harness.experiment.sweep.axes import parse_axes
from harness.experiment.sweep.estimate import _meta, _rate
from harness.experiment.sweep.grid import grid_of
from harness.experiment.sweep.state import Progress, State, read_state
from harness.gate import calibration, history
from harness.gate.foreign import judge_files
from harness.gate.planned import plan_of
from harness.replay.kv_shape import kv_shape
from harness.replay.models import _described, configuration
from harness.replay.outcome import Outcome
from harness.replay.server import about
from harness.reporting import markdown
from harness.reporting.forecast import from_run
from harness.results import export, load
from harness.results.evidence import gather
from harness.results.foreign import read_foreign
from harness.results.schema import REQUEST_COLUMNS
from harness.results.side_tables import append_metrics, append_neighbours, load_metrics, load_neighbours
from harness.testing.runs import write_synthetic_run

PLAN = {"looks": [2], "alpha": 0.05, "spending": "pocock"}
ARMS = ("chunkwise:pool=8", "layerwise:depth=4", "floor", "recompute")
DATA = Path(__file__).resolve().parents[1] / "data" / "traces"


class Good:
    """One good measurement with everything beside it, as bytes by the file's name; made once."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as home:
            folder = Path(home) / "run"
            write_synthetic_run(folder, ARMS, rounds=2, prompts=2, meta={"plan": PLAN})
            append_metrics(folder, [{"time_s": 1.5, "name": "vllm:num_requests_running", "labels": "engine=0", "value": 2.0}] * 2)
            neighbour = {"run": 0, "round": 0, "arm": ARMS[0], "stream": 1, "at_s": 0.5, "value_s": 0.01}
            append_neighbours(folder, [neighbour | {"kind": kind} for kind in ("decode", "probe")])
            history.append(Path(home) / "history.csv", rows([1.0, 0.9]))
            history.append(Path(home) / "history.parquet", rows([1.0, 0.9]))
            grid = grid_of(merge({"store": "mem://kv"}), parse_axes(["concurrency=1,2", "chunkwise.pool=0,8"]))
            state = State.new(Path(home), "default", "ttft sweep", grid)
            state.note(1, Progress("complete", "", 6.0, 2.0))
            same = load(write_synthetic_run(Path(home) / "same", ARMS[:2], rounds=8, prompts=2, spans=False))
            calibration.save(calibration.calibrate(same.counted, *ARMS[:2], meta=same.meta), Path(home) / "calibration.json")
            files = [path for path in Path(home).rglob("*") if path.is_file() and path.parent.name != "same"]
            self.files: Mapping[str, bytes] = {path.name: path.read_bytes() for path in files}


GOOD = Good()


def _measured(name: str, use: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    """A whole measurement with one file replaced."""

    def call(data: bytes, folder: Path) -> None:
        for file in ("run.json", "requests.csv", "spans.jsonl", "metrics.csv", "neighbours.csv"):
            (folder / file).write_bytes(data if file == name else GOOD.files[file])
        use(folder)

    return call


def _rows(folder: Path) -> None:
    found = load(folder, spans=False)
    plan_of(found.meta)


def _report(folder: Path) -> None:
    """All of it but the pictures, and what goes on from it."""
    said = report.of(load(folder, spans=False))
    _ = said.table, said.notes
    markdown.report(said.summary, said.headline, [])
    from_run(said.summary.evidence, None)


def _timeline(folder: Path) -> None:
    list(export.events(gather(load(folder))))


def _read(name: str, load_it: Callable[[Path], object], where: str = "") -> Callable[[bytes, Path], object]:
    """One file put into the folder; ``load_it`` gets the folder, or the file where ``where`` is ``file``."""

    def call(data: bytes, folder: Path) -> None:
        file = folder / name
        file.write_bytes(data)
        load_it(file if where == "file" else folder)

    return call


def _span_log(folder: Path) -> None:
    reader = SpanLogReader(folder, "r/")
    reader.poll()
    for label in ("0", "1", ""):
        reader.lookup(label)
        reader.loads(label)
    SpanLogReader(folder).skip()


def _peer_log(folder: Path) -> None:
    reader = PeerLogReader(folder)
    reader.settle("r/0", Outcome(1.0, 3.0, queue_s=0.1))
    reader.lookup("r/0")
    reader.loads("r/0")


def _trace(form: Format) -> Callable[[bytes, Path], object]:
    return _read("trace", form.build, "file")


def _model(folder: Path) -> None:
    kv_shape(str(folder), "float32")


def _described_model(folder: Path) -> None:
    _described(str(folder), "m", configuration(str(folder), "float32"))


SERVED = {"id": "a", "store": "mem://kv", "arms": ["floor"], "chunk_tokens": 16, "max_model_len": 9}
CONFIG = {"num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64, "hidden_size": 512,
          "vocab_size": 99, "max_position_embeddings": 4096, "layer_types": ["full_attention"]}  # fmt: skip
LOG: tuple[dict[str, Any], ...] = (
    {
        "kind": "start",
        "geometry": {"layers": 2, "block_tokens": 16, "block_bytes": 64, "chunk_blocks": 1, "dtype": "float32"},
        "identity": {"model": "m", "dtype": "float32", "world": 1},
        "blocks": 64,
        "direct": True,
        "torch_threads": 2,
    },
    {"kind": "lookup", "label": "r/0", "start_s": 1.0, "end_s": 1.1, "hit_tokens": 16},
    {
        "kind": "load",
        "label": "r/0",
        "rank": 0,
        "arm": "floor",
        "start_s": 1.2,
        "end_s": 1.4,
        "stall_s": 0.1,
        "operations": 1,
        "keys": 1,
        "bytes": 64,
        "failed_blocks": 0,
        "spans": [["fetch", -1, 1.2, 1.4, 64, 1]],
        "proof": [["00", 0, 5]],
    },
    {"kind": "save", "key": "00", "start_s": 0.0, "end_s": 0.1, "checksums": [1, 2]},
    {"kind": "save_error", "key": "00", "error": "no room"},
)
PEER_LOG: tuple[dict[str, Any], ...] = (
    {"kind": "lookup", "start_s": 1.0, "end_s": 1.1, "hit_tokens": 16, "between_steps": True},
    {"kind": "forward", "rank": 0, "tokens": 20, "start_s": 1.3, "end_s": 1.5, "spans": [["wait", 0, 1.3, 1.4]]},
)


def _lines(records: tuple[dict[str, Any], ...]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def _tail(data: bytes, folder: Path) -> None:
    (folder / "requests.csv").write_bytes(data)
    CsvTail(folder / "requests.csv", REQUEST_COLUMNS).rows()


def _lane(folder: Path) -> None:
    """A lane's spans and its void runs, each from the same input."""
    (folder / "run.json").write_bytes((folder / "spans.jsonl").read_bytes())
    for read in (LaneRows(folder).spans, lambda: LaneRows(folder).void(1)):
        with suppress(RunError):
            read()
    LaneRows(folder).spans()


def _first_record(folder: Path) -> None:
    (folder / about.SPAN_LOG).mkdir(exist_ok=True)
    (folder / "line").replace(folder / about.SPAN_LOG / "worker-0.jsonl")
    assert isinstance(about.started(folder), dict)


def _judged(file: Path) -> None:
    """Read, and judged against itself: what it says of failures and loads is repeated there."""
    runs = read_foreign(file)
    verdict = judge_files(("base", runs), ("new", runs), {"p50": 0.1})
    for finding in (*verdict.refusals, *verdict.all_warnings):
        if len(str(finding)) > LONGEST_MESSAGE or printable(str(finding)) != str(finding):
            raise AssertionError(f"a finding of {len(str(finding))} characters: {str(finding)[:300]!r}")


def _foreign() -> tuple[bytes, ...]:
    with tempfile.TemporaryDirectory() as home:
        files = [
            vllm_bench(Path(home) / "vllm", [0.1, 0.2], ["Connection reset"]), vllm_bench(Path(home) / "good", [0.1, 0.2]),
            guidellm(Path(home) / "guidellm", [0.1, 0.2], cut=1, errors=1), guidellm(Path(home) / "two", [0.1], [0.2]),
            aiperf(Path(home) / "aiperf", [0.1, 0.2], cancelled=1, errors=1), aiperf(Path(home) / "ns", [0.1, 0.2], unit="ns"),
        ]  # fmt: skip
        return tuple(file.read_bytes() for file in files)


def _pace(folder: Path) -> None:
    (folder / "requests.csv").write_bytes(GOOD.files["requests.csv"])
    list(_rate(_meta(folder / "run.json"), folder / "requests.csv"))


def _good(name: str) -> tuple[bytes, ...]:
    return (GOOD.files[name],)


def _doubled(name: str) -> bytes:
    """Its last line twice."""
    data = GOOD.files[name]
    return data + data.splitlines(keepends=True)[-1]


def seeds_of(form: Format) -> tuple[bytes, ...]:
    """Its good lines, and the files of the tests that its name begins."""
    files = [path.read_bytes() for path in sorted(DATA.glob(f"{form.workload.partition('_')[0]}*"))]
    return (form.text().encode(), form.text({}, {}).encode(), *files)


JSON = (TtftError, OSError)
PARSERS = (
    Parser("run.json", _measured("run.json", _rows), _good("run.json"), weight=3),
    Parser("requests.csv", _measured("requests.csv", _rows), (*_good("requests.csv"), _doubled("requests.csv")), weight=3),
    Parser(
        "spans.jsonl", _measured("spans.jsonl", _timeline), (*_good("spans.jsonl"), _doubled("spans.jsonl") + b"{\n"), weight=3
    ),
    Parser("a report over run.json", _measured("run.json", _report), _good("run.json"), weight=4),
    Parser("a report over requests.csv", _measured("requests.csv", _report), _good("requests.csv"), weight=3),
    Parser("metrics.csv", _read("metrics.csv", load_metrics), _good("metrics.csv")),
    Parser("neighbours.csv", _read("neighbours.csv", load_neighbours), _good("neighbours.csv")),
    Parser("a lane's requests.csv", _tail, _good("requests.csv")),
    Parser("a lane's spans and void runs", _read("spans.jsonl", _lane), (*_good("spans.jsonl"), *_good("run.json"))),
    Parser("a result file of another tool", _read("foreign.json", _judged, "file"), _foreign()),
    Parser("a server's first record", _read("line", _first_record), (_lines(LOG),)),
    Parser("sweep.json", _read("sweep.json", read_state), _good("sweep.json")),
    Parser("an earlier run's pace", _read("run.json", _pace), _good("run.json")),
    Parser("a history in CSV", _read("history.csv", history.read, "file"), _good("history.csv")),
    Parser("a history in Parquet", _read("history.parquet", history.read, "file"), _good("history.parquet")),
    Parser("a calibration", _read("calibration.json", calibration.load, "file"), _good("calibration.json")),
    Parser("a span log", _read("worker-0.jsonl", _span_log), (_lines(LOG),)),
    Parser("a peer's span log", _read("worker-0.jsonl", _peer_log), (_lines(PEER_LOG),)),
    Parser("served.json", _read("served.json", about.read), (json.dumps(SERVED).encode(),), JSON),
    Parser("a model's config.json", _read("config.json", _model), (json.dumps(CONFIG).encode(),)),
    Parser("a model's description", _read("config.json", _described_model), (json.dumps(CONFIG).encode(),)),
    *(Parser(f"a trace of {form.workload}", _trace(form), seeds_of(form), packed=True) for form in FORMATS),
)
