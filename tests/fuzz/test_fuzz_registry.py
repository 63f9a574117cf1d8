"""Whatever decodes bytes or text from outside is reached by a parser of ``make fuzz``, or stands here with its reason."""

import ast
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import CodeType, FrameType

from fuzz import PARSERS

from harness.core.errors import TtftError

ROOT = Path(__file__).resolve().parents[2]
DECODERS = frozenset(
    {"json.loads", "tomllib.loads", "csv.reader", "pd.read_csv", "pyarrow.parquet.read_table", "text_string_to_metric_families"}
)
METHODS = frozenset({"raw_decode", "unpack", "unpack_from", "iter_unpack", "model_validate_json"})
NOT_FUZZED = {
    "experiment/lanes/environment.py _probed": "what a program of ours prints",
    "gate/outputs.py schema": "a file of this package",
    "replay/target.py look_up_json": "catches all that json.loads raises; what comes of it goes to /v1/models and /v1/ttft",
    "reporting/page/drawing.py drawing": "a figure of ours",
    "commands/predict.py _plain": "a table of ours",
    "core/chunks.py segments_of_chunk": "what is about to be sealed, which is ours",
    "stores/_bench/limits.py measure": "what fio prints",
}


def parsed(text: str) -> ast.Module:
    """Once more where CPython 3.11 miscounts its own recursion, as it may after inputs that are nested deeply."""
    try:
        return ast.parse(text)
    except SystemError:
        return ast.parse(text)


def decoding() -> Iterator[str]:
    """File and name of every function of the harness that decodes something itself."""
    for file in sorted((ROOT / "harness").rglob("*.py")):
        if file.relative_to(ROOT / "harness").parts[0] == "testing":
            continue
        for function in ast.walk(parsed(file.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                called = [ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)]
                if any(name in DECODERS or name.rpartition(".")[2] in METHODS for name in called):
                    yield f"{file.relative_to(ROOT / 'harness')} {function.name}"


def test_what_decodes_is_fuzzed(tmp_path: Path) -> None:
    entered: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            entered.add(frame.f_code)

    for place, parser in enumerate(PARSERS):
        folder = tmp_path / str(place)
        folder.mkdir()
        for data in parser.seeds:
            sys.setprofile(note)
            try:
                with suppress(TtftError, *parser.raises):
                    parser.call(data, folder)
            finally:
                sys.setprofile(None)
    reached = {
        f"{Path(code.co_filename).relative_to(ROOT / 'harness')} {code.co_name}"
        for code in entered
        if Path(code.co_filename).is_relative_to(ROOT / "harness")
    }
    wanted = set(decoding())
    lacking, idle = ", ".join(sorted(wanted - reached - set(NOT_FUZZED))), ", ".join(sorted(set(NOT_FUZZED) - wanted))
    assert not lacking, f"{lacking}: give it a parser in tests/fuzz, or say here why it needs none"
    assert not idle, f"{idle}: decodes nothing any more"
