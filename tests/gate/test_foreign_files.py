"""Result files of other tools, judged as two sets of runs: what they hold, what is refused, and what has to be said."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from foreign_files import aiperf, guidellm, vllm_bench
from typer.testing import CliRunner

from harness.commands.app import app
from harness.core.errors import ResultsError, TtftError, UsageError
from harness.core.findings import Kind
from harness.gate.foreign import judge_files
from harness.gate.verdict import Outcome, Verdict
from harness.results.foreign import ForeignRun, read_foreign

Write = Callable[[Path, Sequence[float]], Path]
WRITERS: list[Write] = [vllm_bench, guidellm, aiperf]


def runs(count: int, median_s: float, seed: int) -> list[list[float]]:
    """TTFTs of runs that differ by 1% and of requests that differ by 10%."""
    random = np.random.default_rng(seed)
    return [(median_s * np.exp(random.normal(0, 0.01) + random.normal(0, 0.1, 40))).tolist() for _ in range(count)]


def judged(base: Sequence[ForeignRun], candidate: Sequence[ForeignRun], margin: float = 0.1) -> Verdict:
    return judge_files(("base", base), ("new", candidate), {"p50": margin})


def files(folder: Path, write: Write, name: str, ttfts: Sequence[Sequence[float]]) -> list[ForeignRun]:
    return [one for place, some in enumerate(ttfts) for one in read_foreign(write(folder / f"{name}{place}.json", some))]


@pytest.mark.parametrize("write", WRITERS)
def test_every_tool_s_ttft_is_read_in_seconds_without_what_does_not_count(tmp_path: Path, write: Write) -> None:
    [run] = read_foreign(write(tmp_path / "one", [0.25, 0.5]))
    assert run.ttft_s == pytest.approx((0.25, 0.5))
    assert (run.failed, run.cut, run.prompt_tokens) == (0, 0, (512.0, 512.0))


def test_other_units_and_appended_runs_are_understood(tmp_path: Path) -> None:
    [run] = read_foreign(aiperf(tmp_path / "ns", [0.25], unit="ns"))
    assert run.ttft_s == pytest.approx((0.25,))
    both = tmp_path / "appended.json"  # as --append-result writes it
    both.write_text("\n".join(vllm_bench(tmp_path / "one", [ttft]).read_text() for ttft in (0.1, 0.2)))
    assert [one.ttft_s for one in read_foreign(both)] == [(0.1,), (0.2,)]
    assert [one.ttft_s for one in read_foreign(guidellm(tmp_path / "two", [0.1], [0.2]))] == [
        pytest.approx((0.1,)),
        pytest.approx((0.2,)),
    ]


@pytest.mark.parametrize("write", WRITERS)
def test_unchanged_passes_and_slower_by_a_fifth_is_found(tmp_path: Path, write: Write) -> None:
    base = files(tmp_path, write, "a", runs(6, 0.1, 1))
    assert judged(base, files(tmp_path, write, "b", runs(6, 0.1, 2))).outcome is Outcome.PASS
    slower = judged(base, files(tmp_path, write, "c", runs(6, 0.12, 3)))
    assert slower.outcome is Outcome.FAIL
    [metric] = slower.metrics
    assert 1.1 < metric.low < 1.2 < metric.high < 1.25
    assert {Kind.FILES, Kind.APART} <= {finding.kind for finding in slower.all_warnings}


def test_one_run_a_side_is_never_decided_however_many_requests_it_has(tmp_path: Path) -> None:
    base, slower = (read_foreign(vllm_bench(tmp_path / f"{ttft}", [ttft] * 5000)) for ttft in (0.1, 0.3))
    verdict = judged(base, slower)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert [finding.subject for finding in verdict.all_warnings if finding.kind is Kind.FILE_ALONE] == ["base", "new"]


def test_failed_requests_other_prompts_loads_and_tools_are_refused(tmp_path: Path) -> None:
    fine = read_foreign(vllm_bench(tmp_path / "fine", [0.1] * 20))
    for place, (other, kind) in enumerate(
        [
            (vllm_bench(tmp_path / "failed", [0.1] * 20, ["Connection reset"]), Kind.FILE_FAILED),
            (vllm_bench(tmp_path / "longer", [0.1] * 20, tokens=600), Kind.FILE_LENGTHS),
            (vllm_bench(tmp_path / "faster", [0.1] * 20, request_rate="inf"), Kind.FILE_LOADS),
            (aiperf(tmp_path / "aiperf", [0.1] * 20), Kind.FILE_TOOLS),
        ]
    ):
        verdict = judged(fine, read_foreign(other))
        assert (verdict.outcome, [one.kind for one in verdict.refusals]) == (Outcome.REFUSED, [kind]), place
    assert "Connection reset" in str(judged(fine, read_foreign(tmp_path / "failed")).refusals[0])
    for write in (guidellm, aiperf):
        [failed] = read_foreign(write(tmp_path / "errors", [0.1], errors=2))
        assert (failed.failed, failed.why) == (2, "it was refused")


def test_at_an_infinite_rate_the_number_of_prompts_is_the_load(tmp_path: Path) -> None:
    few, many = (
        read_foreign(vllm_bench(tmp_path / f"{count}", [0.1] * count, request_rate="inf", max_concurrency=None))
        for count in (20, 200)
    )
    assert [one.kind for one in judged(few, many).refusals] == [Kind.FILE_LOADS]
    ramped = read_foreign(vllm_bench(tmp_path / "ramped", [0.1] * 20, ramp_up_strategy="linear"))
    assert [one.kind for one in judged(read_foreign(vllm_bench(tmp_path / "flat", [0.1] * 20)), ramped).refusals]


def test_a_copy_is_no_second_run(tmp_path: Path) -> None:
    [one], others = read_foreign(vllm_bench(tmp_path / "one", [0.1, 0.2])), files(tmp_path, vllm_bench, "b", runs(3, 0.1, 1))
    copied = read_foreign(vllm_bench(tmp_path / "copied", [0.1, 0.2]))[0]
    for base, candidate in (([one, copied], others), (others, [one, copied]), ([one, *others], [copied])):
        with pytest.raises(UsageError, match=r"one and .*copied hold the same run"):
            judged(base, candidate)


def test_requests_that_were_cut_off_are_said(tmp_path: Path) -> None:
    cut = [run for s in (0.1, 0.11, 0.12, 0.13) for run in read_foreign(guidellm(tmp_path / "cut", [s] * 20, cut=3))]
    [said] = [one for one in judged(cut[:2], cut[2:]).all_warnings if one.kind is Kind.FILE_CUT]
    assert (said["count"], said["total"]) == (12, 92)
    [run] = read_foreign(aiperf(tmp_path / "cancelled", [0.1], cancelled=2))
    assert (run.cut, run.failed) == (2, 0)


@pytest.mark.parametrize(
    ("text", "error", "sentence"),
    [
        ("", ResultsError, "holds no JSON object"),
        ("a: b", ResultsError, "is not JSON"),
        ("[1]", ResultsError, "holds no JSON object"),
        ("{}", UsageError, "is no result of a tool that is known"),
        (json.dumps({"median_ttft_ms": 3.0}), UsageError, "run vllm bench serve with --save-detailed"),
        (json.dumps({"time_to_first_token": {"avg": 3.0}}), UsageError, "give the profile_export.jsonl"),
        (json.dumps({"ttfts": [0.0], "errors": [""], "input_lens": [1]}), UsageError, "let the tool stream"),
        (json.dumps({"ttfts": [0.1], "errors": ["", ""], "input_lens": [1]}), ResultsError, "is damaged"),
        (json.dumps({"ttfts": [0.1, 0.1], "errors": [""], "input_lens": [1, 1]}), ResultsError, "2 ttfts, 1 errors"),
        (json.dumps({"ttfts": [0.1], "errors": [""], "input_lens": [float("inf")]}), ResultsError, "a prompt of inf tokens"),
        (json.dumps({"ttfts": [0.1], "errors": [""], "input_lens": [float("nan")]}), ResultsError, "a prompt of nan tokens"),
        (json.dumps({"ttfts": [1e300], "errors": [""], "input_lens": [1]}), ResultsError, "a time to first token of 1e.300 s"),
        (json.dumps({"benchmarks": [{}]}), ResultsError, "is damaged"),
        (json.dumps({"metadata": {}, "metrics": {"x": 1}}), UsageError, "let the tool stream"),
        (100_000 * "[", ResultsError, "is not JSON"),
    ],
)
def test_a_file_that_will_not_do_is_one_sentence(tmp_path: Path, text: str, error: type[TtftError], sentence: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(error, match=sentence):
        read_foreign(path)


def test_a_sweep_is_no_set_of_runs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 benchmarks under different loads"):
        read_foreign(guidellm(tmp_path / "sweep", [0.1], [0.2], rates=[1.0, 2.0]))


def test_the_command_takes_two_files_or_patterns(tmp_path: Path) -> None:
    def gate(*words: str) -> tuple[int, str]:
        ended = CliRunner().invoke(app, ["gate", *words, "--max", "p50:10%"])
        return ended.exit_code, f"{ended.output}{ended.exception or ''}"

    for name, median, seed in (("old", 0.1, 1), ("new", 0.12, 2)):
        for place, ttfts in enumerate(runs(5, median, seed)):
            vllm_bench(tmp_path / f"{name}{place}.json", ttfts)
    old, new = str(tmp_path / "old*.json"), str(tmp_path / "new*.json")
    code, said = gate("--base", old, "--candidate", new, "--out", str(tmp_path / "out"))
    assert code == 1 and "FAIL" in said and "do not say on which machine" in said
    assert json.loads((tmp_path / "out" / "verdict.json").read_text())["outcome"] == "FAIL"
    as_json = CliRunner().invoke(app, ["gate", "--base", old, "--candidate", new, "--max", "p50:10%", "--json"])
    assert (as_json.exit_code, json.loads(as_json.stdout)["outcome"]) == (1, "FAIL")
    code, said = gate(str(tmp_path / "old0.json"), str(tmp_path / "new0.json"))
    assert code == 3 and "is one run" in said
    assert "give two, the base first" in gate(str(tmp_path / "old0.json"))[1]
    assert "no file matches" in gate("--base", old, "--candidate", str(tmp_path / "none*.json"))[1]
    assert "is on both sides" in gate("--base", old, "--candidate", str(tmp_path / ".." / tmp_path.name / "old*.json"))[1]
    assert "--force" in gate("--base", old, "--candidate", new, "--force")[1]
    assert "name a measurement's folder" in gate("--base", "chunkwise", "--candidate", "layerwise")[1]
