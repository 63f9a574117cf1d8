import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.experiment.cache_state import expected_hits
from harness.testing.workloads import WorkloadTests, build
from harness.workloads.base import Limits
from harness.workloads.mooncake import Mooncake
from harness.workloads.timed_trace import TimedTrace

LIMITS = Limits(vocabulary=2**31, max_tokens=100_000, chunk_tokens=1)
LINES = [
    {"chat_id": 1, "timestamp": 0.5, "input_length": 40, "output_length": 132, "turn": 1, "hash_ids": [1, 2, 3]},
    {"chat_id": 2, "timestamp": 0.75, "input_length": 35, "output_length": 1, "turn": 1, "hash_ids": [4, 2]},
    {"chat_id": 3, "timestamp": 61.0, "input_length": 64, "output_length": 12, "turn": 2, "hash_ids": [1, 2, 6, 7]},
]


def write(path: Path, lines: list[dict[str, Any]] = LINES) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


class TestTimedTrace(WorkloadTests):
    workload = TimedTrace

    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, Any]:
        return {"path": write(tmp_path / "t.jsonl")}


def test_lines_become_prompts_and_blocks_hit_only_behind_the_same_blocks(tmp_path: Path) -> None:
    data = build(TimedTrace, {"path": write(tmp_path / "t.jsonl")}, LIMITS)
    assert [(p.id, len(p.tokens), p.prefix_tokens, p.output_tokens, p.arrival_s) for p in data.prompts] == [
        ("line1", 40, 0, 4, 0.0),
        ("line2", 35, 0, 1, 0.25),  # its second id is known, but not behind its first
        ("line3", 64, 32, 4, 60.5),
    ]


def test_ids_that_end_early_leave_a_rest_that_is_shared_with_none(tmp_path: Path) -> None:
    lines = [{"timestamp": n, "input_length": 40, "output_length": 3, "hash_ids": [1, 2]} for n in range(3)]
    data = build(TimedTrace, {"path": write(tmp_path / "t.jsonl", lines)}, LIMITS)
    assert [prompt.prefix_tokens for prompt in data.prompts] == [0, 32, 32]
    assert expected_hits(data, "natural", 1) == [0, 32, 32]
    assert any("Of 3 requests the ids end before the prompt does" in note for note in data.notes)


def test_mooncake_is_one_of_its_forms(tmp_path: Path) -> None:
    lines = [
        {"timestamp": 0, "input_length": 1000, "output_length": 5, "hash_ids": [1, 2]},
        {"timestamp": 2500, "input_length": 1500, "output_length": 5, "hash_ids": [1, 2, 3]},
    ]
    path = write(tmp_path / "t.jsonl", lines)
    timed = build(TimedTrace, {"path": path, "chunk_hash_size": 512, "sec_multiplier": 0.001, "scale": 0.25}, LIMITS)
    assert timed.prompts == build(Mooncake, {"path": path, "scale": 0.25}, LIMITS).prompts


def test_fields_may_have_other_names(tmp_path: Path) -> None:
    labels = {"timestamp": "ts", "input_length": "in", "output_length": "out", "hash_ids": "blocks"}
    renamed = [{labels.get(name, name): value for name, value in line.items()} for line in LINES]
    options = {f"label_{name}": label for name, label in labels.items()}
    plain = build(TimedTrace, {"path": write(tmp_path / "t.jsonl")}, LIMITS)
    assert build(TimedTrace, {"path": write(tmp_path / "r.jsonl", renamed), **options}, LIMITS).prompts == plain.prompts
    with pytest.raises(UsageError, match=r"t\.jsonl:1: the field 'ts' is missing; give ts"):
        build(TimedTrace, {"path": write(tmp_path / "t.jsonl"), "label_timestamp": "ts"}, LIMITS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0.1}, r"chunk_hash_size=16 is invalid: scale=0\.1 makes a block of 16 tokens 1\.6 tokens long"),
        ({"scale": 0.5, "chunk_hash_size": 3}, "chunk_hash_size=3 is invalid: scale=0.5 makes a block of 3"),
        ({"chunk_hash_size": 0}, "chunk_hash_size=0 is invalid"),
        ({"sec_multiplier": 0}, "sec_multiplier=0 is invalid"),
        ({"label_hash_ids": "timestamp"}, "label_hash_ids='timestamp' is invalid: two of the labels are the same"),
        ({"label_timestamp": ""}, "label_timestamp='' is invalid"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(TimedTrace, {"path": write(tmp_path / "t.jsonl"), **options}, LIMITS)


@pytest.mark.parametrize(("chunk", "scale"), [(3, 1 / 3), (16, 0.0625), (384, 1 / 384), (48, 7 / 48)])
def test_any_whole_block_will_do(tmp_path: Path, chunk: int, scale: float) -> None:
    lines = [{"timestamp": 0, "input_length": 5 * chunk, "output_length": 3, "hash_ids": [1, 2, 3, 4, 5]}]
    options = {"path": write(tmp_path / "t.jsonl", lines), "chunk_hash_size": chunk, "scale": scale}
    (prompt,) = build(TimedTrace, options, LIMITS).prompts
    assert len(prompt.tokens) == 5 * round(chunk * scale)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hash_ids": [1, 2, 3, 4]}, "hash_ids has 4 entries, but input_length=40 makes 3 blocks"),
        ({"hash_ids": None}, "hash_ids=None is invalid"),
        ({"timestamp": 0.25}, "timestamp=0.25 lies before the 0.5 of an earlier line"),
        ({"input_length": -40}, "input_length=-40 is invalid"),
        ({"input_length": 10**12}, "input_length=1000000000000 is invalid"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=rf"t\.jsonl:2: {message}"):
        build(TimedTrace, {"path": write(tmp_path / "t.jsonl", [LINES[0], {**LINES[0], **change}])}, LIMITS)
