import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.experiment.cache_state import expected_hits
from harness.testing.workloads import WorkloadTests, build
from harness.workloads._blocks import read_trace
from harness.workloads.base import DataSet, Limits
from harness.workloads.mooncake import MOONCAKE, Mooncake

LIMITS = Limits(vocabulary=2**31, max_tokens=100_000, chunk_tokens=1)
SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "mooncake_conversation_4000.jsonl"

LINES = [
    (0, 1000, [1, 2], 500),
    (100, 1500, [1, 2, 3], 2),  # hits block 1 and 488 tokens of block 2
    (2000, 600, [7, 8], 30),  # hits nothing
    (2500, 1500, [1, 2, 3], 0),  # hits all of itself
    (3000, 1024, [1, 9], 10),  # hits block 1
    (9000, 2048, [1, 2, 3, 4], 10),  # hits 2 blocks and 476 tokens of block 3
]


def write(path: Path, lines: Sequence[tuple[float, int, list[int], int]] = LINES) -> str:
    names = ("timestamp", "input_length", "hash_ids", "output_length")
    path.write_text("".join(json.dumps(dict(zip(names, line, strict=True))) + "\n" for line in lines))
    return str(path)


class TestMooncake(WorkloadTests):
    workload = Mooncake

    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, Any]:
        return {"path": write(tmp_path / "trace.jsonl")}


@pytest.fixture
def trace(tmp_path: Path) -> str:
    return write(tmp_path / "trace.jsonl")


def ids(data: DataSet) -> list[str]:
    return [prompt.id for prompt in data.prompts]


def test_lines_become_prompts(trace: str) -> None:
    data = build(Mooncake, {"path": trace}, LIMITS)
    assert ids(data) == ["line1", "line2", "line3", "line4", "line5", "line6"]
    assert [len(prompt.tokens) for prompt in data.prompts] == [line[1] for line in LINES]
    assert [prompt.arrival_s for prompt in data.prompts] == [0, 0.1, 2, 2.5, 3, 9]
    assert [prompt.output_tokens for prompt in data.prompts] == [4, 2, 4, 1, 4, 4]
    assert [prompt.prefix_tokens for prompt in data.prompts] == [0, 1000, 0, 1500, 512, 1500]
    assert data.notes == ()


@pytest.mark.parametrize("scale", [1.0, 0.125, 3 / 512, 2.0])
def test_ideal_hits_are_what_the_tokens_share(trace: str, scale: float) -> None:
    """Hits come from the ids; here they are counted again, token by token, at every scale."""
    data = build(Mooncake, {"path": trace, "scale": scale}, LIMITS)
    by_tokens = expected_hits(data, "natural", 1)
    whole = [len(prompt.tokens) - 1 for prompt in data.prompts]
    assert by_tokens == [min(prompt.prefix_tokens, most) for prompt, most in zip(data.prompts, whole, strict=True)]


def test_scale_multiplies_lengths_and_rounds_up(trace: str) -> None:
    data = build(Mooncake, {"path": trace, "scale": "0.125"}, LIMITS)
    assert [len(prompt.tokens) for prompt in data.prompts] == [125, 188, 75, 188, 128, 256]
    assert [prompt.prefix_tokens for prompt in data.prompts] == [0, 125, 0, 188, 64, 188]


@pytest.mark.parametrize("scale", ["0.1", "0.001", "0.3333"])
def test_an_unusable_scale_names_usable_ones(trace: str, scale: str) -> None:
    with pytest.raises(UsageError, match=r"mooncake: scale=.*usable are 1, 0\.5, 0\.25") as caught:
        build(Mooncake, {"path": trace, "scale": scale}, LIMITS)
    nearest = str(caught.value).rpartition("nearby ")[2].split()[0]
    assert build(Mooncake, {"path": trace, "scale": nearest}, LIMITS).prompts


@pytest.mark.parametrize("scale", ["0", "-1", "nan", "inf", "much"])
def test_scale_must_be_a_positive_number(trace: str, scale: str) -> None:
    with pytest.raises(UsageError, match="mooncake: scale="):
        build(Mooncake, {"path": trace, "scale": scale}, LIMITS)


def test_hits_count_requests_that_are_not_measured(trace: str) -> None:
    data = build(Mooncake, {"path": trace, "start_s": 3, "end_s": 9}, LIMITS)
    (prompt,) = data.prompts
    assert (prompt.id, prompt.prefix_tokens, prompt.arrival_s) == ("line5", 512, 0)


def test_window_begins_inside_and_ends_outside(trace: str) -> None:
    assert ids(build(Mooncake, {"path": trace, "start_s": 2, "end_s": 3}, LIMITS)) == ["line3", "line4"]


def test_hit_range_and_limit(trace: str) -> None:
    data = build(Mooncake, {"path": trace, "min_hit": 0.5, "limit": 3}, LIMITS)
    assert ids(data) == ["line2", "line4", "line5"]
    assert "3 of 5 requests read have an ideal hit of 50.0% to 100.0%" in data.notes[0]
    assert ids(build(Mooncake, {"path": trace, "min_hit": 0.5, "max_hit": 0.7}, LIMITS)) == ["line2", "line5"]


def test_length_range(trace: str) -> None:
    assert ids(build(Mooncake, {"path": trace, "min_input": 1000, "max_input": 1500}, LIMITS)) == [
        "line1",
        "line2",
        "line4",
        "line5",
    ]


def test_scale_does_not_change_which_requests_qualify(trace: str) -> None:
    options = {"path": trace, "min_hit": 0.66, "min_input": 600}
    assert ids(build(Mooncake, {**options, "scale": 1 / 512}, LIMITS)) == ids(build(Mooncake, options, LIMITS))


def test_skipped_requests_do_not_use_up_the_limit(trace: str) -> None:
    narrow = Limits(vocabulary=1000, max_tokens=1100, chunk_tokens=16)
    data = build(Mooncake, {"path": trace, "limit": 3}, narrow)
    assert ids(data) == ["line1", "line3", "line5"]
    assert any("Skipped 2 of 5 prompts" in note for note in data.notes)


def test_truncated_requests_keep_their_head(trace: str) -> None:
    narrow = Limits(vocabulary=2**31, max_tokens=1100, chunk_tokens=16)
    whole = build(Mooncake, {"path": trace}, LIMITS).prompts[5]
    cut = build(Mooncake, {"path": trace, "over_long": "truncate"}, narrow).prompts[5]
    assert cut.tokens == whole.tokens[:1096]
    assert cut.prefix_tokens == 1096


def test_nothing_fits_names_a_scale_that_does(trace: str) -> None:
    narrow = Limits(vocabulary=1000, max_tokens=500, chunk_tokens=16)
    with pytest.raises(UsageError, match=r"600 to 2,048 tokens.*allows 500.*or over_long=truncate") as caught:
        build(Mooncake, {"path": trace}, narrow)
    scale = str(caught.value).partition("use scale=")[2].split()[0]
    data = build(Mooncake, {"path": trace, "scale": scale}, narrow)
    assert len(data.prompts) == len(LINES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_s": 10}, "has no request at or after start_s=10"),
        ({"start_s": 4, "end_s": 8}, "has no request at or after start_s=4 and before end_s=8"),
        ({"start_s": 5, "end_s": 5}, "end_s=5 is invalid: the window is empty"),
        ({"min_hit": 0.1, "end_s": 0.1}, r"none of the 1 requests .* 10.0% to 100.0% \(the highest hit is 0.0%\)"),
        ({"min_hit": 0.5, "max_hit": 0.4}, "max_hit=0.4 is invalid: no hit lies between"),
        ({"min_hit": 1.5}, "min_hit=1.5 is invalid"),
        ({"min_input": 5000}, "none of the 6 requests .* at least 5,000 tokens"),
        ({"limit": 0}, "limit=0 is invalid"),
        ({"over_long": "cut"}, "over_long='cut' is invalid: .*'skip' or 'truncate'"),
    ],
)
def test_options_that_leave_nothing_are_refused(trace: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(Mooncake, {"path": trace, **options}, LIMITS)


GOOD = {"timestamp": 5, "input_length": 600, "output_length": 3, "hash_ids": [1, 2]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not one JSON object"),
        ("[1, 2]", "not one JSON object"),
        (json.dumps(GOOD)[:-5], "not one JSON object"),
        (json.dumps(GOOD) + json.dumps(GOOD), "not one JSON object"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "hash_ids"}), "the field 'hash_ids' is missing"),
        (json.dumps(GOOD | {"input_length": "600"}), "input_length='600' is invalid"),
        (json.dumps(GOOD | {"input_length": True}), "input_length=True is invalid"),
        (json.dumps(GOOD | {"input_length": 0}), "input_length=0 is invalid"),
        (json.dumps(GOOD | {"input_length": -600}), "input_length=-600 is invalid"),
        (json.dumps(GOOD | {"output_length": -1}), "output_length=-1 is invalid"),
        (json.dumps(GOOD | {"hash_ids": [1, "2"]}), r"hash_ids\.1='2' is invalid"),
        (json.dumps(GOOD | {"hash_ids": [1]}), "hash_ids has 1 entries, but input_length=600 makes 2 blocks"),
        (json.dumps(GOOD | {"hash_ids": [1, 2, 3]}), "hash_ids has 3 entries"),
        (json.dumps(GOOD | {"timestamp": float("nan")}), "timestamp=nan is invalid"),
        (json.dumps(GOOD | {"timestamp": 4}), "timestamp=4 lies before the 5 of an earlier line"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n\n{line}\n")
    with pytest.raises(UsageError, match=f"trace.jsonl:3: {message}.*; "):
        build(Mooncake, {"path": str(path)}, LIMITS)


def test_bytes_that_are_no_text_are_a_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(b"\xff\xfe\x00\n")
    with pytest.raises(UsageError, match=r"trace\.jsonl:1: not one JSON object"):
        build(Mooncake, {"path": str(path)}, LIMITS)


def test_a_trace_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*none\.jsonl: No such file"):
        build(Mooncake, {"path": str(tmp_path / "none.jsonl")}, LIMITS)
    with pytest.raises(UsageError, match=r"cannot read .*directory"):
        build(Mooncake, {"path": str(tmp_path)}, LIMITS)


def test_the_path_is_required() -> None:
    with pytest.raises(UsageError, match="mooncake needs the option 'path'"):
        build(Mooncake, {}, LIMITS)


def test_the_shipped_sample_has_the_stated_hits() -> None:
    """The facts that the experiments were chosen by, counted from the file."""
    if not SAMPLE.exists():
        pytest.skip(f"needs the trace {SAMPLE.name}, which is not part of this project")
    requests = list(read_trace(str(SAMPLE), MOONCAKE))
    blocks = [len(request.hash_ids) for request in requests]
    hits = [-(-request.hit // 512) for request in requests]
    assert len(requests) == 4000
    assert sum(hits) / sum(blocks) == pytest.approx(0.326, abs=0.0005)
    assert sum(hits[:60]) / sum(blocks[:60]) == pytest.approx(0.04, abs=0.005)
    reused = [r.hit_share for r in requests if 8000 <= r.input_length <= 40_000 and r.hit_share >= 0.5]
    assert len(reused) == 547
    assert statistics.median(reused) == pytest.approx(0.95, abs=0.006)
    data = build(Mooncake, {"path": str(SAMPLE), "scale": 0.125, "min_hit": 0.5, "limit": 24}, LIMITS)
    assert len(data.prompts) == 24
    assert all(prompt.prefix_tokens >= 0.49 * len(prompt.tokens) for prompt in data.prompts)
