"""``--json``: stdout is one JSON object, with the keys that docs/json.md names."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import cli
from harness.experiment.settings import named_experiments, read_experiment
from harness.gate import verdict as verdicts
from harness.testing.runs import write_synthetic_run

PAGE = (Path(__file__).parents[2] / "docs" / "json.md").read_text("utf-8")
Ttft = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def ttft(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ttft:
    def run(*words: str) -> tuple[int, Any, str]:
        monkeypatch.setattr("harness.commands.store_bench.end_as_by_ctrl_c", lambda: None)
        monkeypatch.setattr(sys, "argv", ["ttft", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), json.loads(captured.out) if captured.out else None, captured.err

    return run


def documented(command: str) -> list[str]:
    """The keys in the table of a command's section."""
    section = PAGE.partition(f"## `ttft {command}")[2].partition("\n## ")[0]
    return [key for cell in re.findall(r"^\| (`.+?) \|", section, re.MULTILINE) for key in re.findall(r"`(\w+)`", cell)]


@pytest.mark.parametrize("kind", ["engines", "peers", "stores", "workloads", "experiments", "settings"])
def test_lists(ttft: Ttft, kind: str) -> None:
    code, found, err = ttft("list", kind, "--json")
    assert (code, err) == (0, "")
    assert list(found) == documented("list KIND")
    assert found["kind"] == kind and all(one["name"] and one["summary"] for one in found["entries"])


def test_a_prediction(ttft: Ttft) -> None:
    words = ["--latency-ms", "2", "--stream-mb-s", "300", "--layers", "24", "--layer-kib", "2", "--compute-ms", "60"]
    code, found, err = ttft("predict", *words, "--prefix", "1024,2048", "--readers", "2,8", "--json")
    assert (code, err) == (0, "") and list(found) == documented("predict")
    assert [one["prefix_tokens"] for one in found["recommended"]] == [1024, 2048]
    assert found["store"] == {"latency_s": 0.002, "stream_bytes_per_s": 300e6, "total_bytes_per_s": None}


def test_a_bench_is_also_its_file(ttft: Ttft, tmp_path: Path) -> None:
    small = [
        "--quick",
        "--sizes",
        "1000,5000",
        "--threads",
        "2",
        "--loops",
        "1x2",
        "--batches",
        "2",
        "--rounds",
        "2",
        "--no-limit",
    ]
    code, found, err = ttft(
        "store", "bench", f"file://{tmp_path}/kv", *small, "--no-limit", "--out", str(tmp_path / "bench"), "--json"
    )
    assert code == 0 and sorted(found) == sorted(documented("store bench")) and "measuring 2 rounds" in err
    assert found == json.loads((tmp_path / "bench" / "bench.json").read_text("utf-8"))


def test_doctor(ttft: Ttft) -> None:
    code, found, _ = ttft("doctor", "--json")
    assert list(found) == documented("doctor") and code == (0 if found["ok"] else 2)


def test_a_verdict_keeps_its_exit_code(ttft: Ttft, tmp_path: Path) -> None:
    arms = ["chunkwise:pool=0", "layerwise:depth=4"]
    write_synthetic_run(tmp_path / "run", arms=arms, rounds=12, prompts=12, mean_s={arms[0]: 0.3, arms[1]: 0.5})
    code, found, err = ttft("gate", str(tmp_path / "run"), "--candidate", arms[1], "--base", arms[0], "--max", "p50:5%", "--json")
    assert (code, found["outcome"]) == (1, "FAIL") and "FAIL" in err
    jsonschema.validate(found, json.loads((Path(verdicts.__file__).parent / "verdict.schema.json").read_text("utf-8")))


def test_an_error_leaves_stdout_empty(ttft: Ttft) -> None:
    code, found, err = ttft("list", "engine", "--json")
    assert (code, found) == (2, None) and err.startswith("error: unknown kind of list 'engine'")
    code, found, err = ttft("list", "engines", "--json-schema")
    assert (code, found) == (2, None) and "only settings have a JSON Schema" in err


def test_the_schema_of_experiments_takes_all_that_are_shipped_and_refuses_a_wrong_key(ttft: Ttft) -> None:
    code, schema, _ = ttft("list", "settings", "--json-schema")
    assert code == 0
    for name in named_experiments():
        jsonschema.validate(read_experiment(name), schema)
    for wrong in ({"pears": 3}, {"pairs": 0}, {"page_cache": "cold"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
