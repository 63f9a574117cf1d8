"""The bottleneck that was put into a measurement is the one that is named, and the command it names can be run."""

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import cli
from harness.core.errors import ResultsError
from harness.reporting.explain import Cause, Change, Explanation, explain
from harness.results import Measurement, load
from harness.results.evidence import gather
from harness.testing.runs import write_synthetic_run

REFERENCE = Path(__file__).resolve().parents[3] / "results" / "reference"
ARMS = ["chunkwise:pool=0", "chunkwise:pool=8", "layerwise:depth=4", "floor"]
STORE = "shaped+file:///tmp/kv?latency_ms={}&stream_mb_s={}"


def made(path: Path, arms: list[str] | None = None, store: str = STORE.format(2, 300), **config: object) -> Measurement:
    run = load(write_synthetic_run(path, arms or ARMS, 6, 12))
    told = run.meta["config"] | {"store": store, "model": "builtin:kv_heads=8"} | config
    return replace(run, meta=run.meta | {"config": told})


def explained(run: Measurement, arm: str = "chunkwise:pool=0") -> Explanation:
    [found] = [one for one in explain(gather(run)) if one.parts.arm.name == arm]
    return found


def with_more(run: Measurement, column: str, seconds: float, arm: str) -> Measurement:
    """Every request of ``arm`` takes longer, in one part; the column ttft_s alone is time outside the parts."""
    rows = run.requests.copy()
    mine = rows["arm"] == arm
    for name in {column, "ttft_s"}:
        rows.loc[mine, name] = rows.loc[mine, name] + seconds
    return replace(run, requests=rows)


def without_floor(run: Measurement) -> Measurement:
    arms = [arm for arm in run.meta["arms"] if arm["name"] != "floor"]
    return replace(run, meta=run.meta | {"arms": arms}, requests=run.requests[run.requests["arm"] != "floor"])


@pytest.mark.parametrize(
    ("column", "cause", "said"),
    [
        ("queue_s", Cause.QUEUE, "waiting in vLLM's queue"),
        ("lookup_s", Cause.LOOKUP, "asking the store what it holds"),
        ("compute_s", Cause.SLOWED, "slower beside the readers"),
        ("ttft_s", Cause.OTHER, "outside vLLM's clocks"),
        ("stall_s", Cause.BANDWIDTH, "waiting for the store's bandwidth; per request it makes"),
    ],
)
@pytest.mark.parametrize("arm", ["chunkwise:pool=8", "layerwise:depth=4"])
def test_the_part_that_was_made_longer_is_named(tmp_path: Path, column: str, cause: Cause, said: str, arm: str) -> None:
    found = explained(with_more(made(tmp_path, store=STORE.format(0.01, 300)), column, 2.0, arm), arm)
    assert found.parts.bottleneck is cause
    assert said in found.sentences[0] and found.sentences[0].startswith(f"{arm}: ")


def test_round_trips_or_bandwidth_by_what_a_call_costs(tmp_path: Path) -> None:
    slow_calls = made(tmp_path / "calls", store=STORE.format(50, 100_000))
    slow_bytes = made(tmp_path / "bytes", store=STORE.format(0.01, 300))
    assert explained(slow_calls).parts.bottleneck is Cause.ROUND_TRIPS
    assert explained(slow_bytes).parts.bottleneck is Cause.BANDWIDTH


def test_a_wait_counts_as_a_whole_before_it_is_divided(tmp_path: Path) -> None:
    """Two halves of a wait of 2 s do not lose to a queue of 1.5 s."""
    equal = 1e3 * 256 * 48 * 1024 / 300e6  # milliseconds that a chunk takes at 300 MB/s
    run = with_more(with_more(made(tmp_path, store=STORE.format(equal, 300)), "stall_s", 2.0, ARMS[0]), "queue_s", 1.5, ARMS[0])
    found = explained(run).parts
    assert found.bottleneck in (Cause.ROUND_TRIPS, Cause.BANDWIDTH)
    assert found.seconds[found.bottleneck] < found.seconds[Cause.QUEUE]


def test_copies_are_told_by_their_spans(tmp_path: Path) -> None:
    run = with_more(made(tmp_path, store=STORE.format(0.01, 100_000)), "stall_s", 2.0, ARMS[0])
    fetches = run.spans[run.spans["kind"] == "fetch"]
    run = replace(run, spans=pd.concat([run.spans, fetches.assign(kind="copy")]))
    found = explained(run)
    assert found.parts.bottleneck is Cause.COPIES
    assert found.remedy.change in (Change.MEASURED, Change.ARM) and "copies from staging memory" in found.sentences[0]


def test_where_little_but_the_forward_is_left_no_engine_is_blamed(tmp_path: Path) -> None:
    run = made(tmp_path, ["chunkwise:pool=8", "floor"])
    for arm in ("chunkwise:pool=8", "floor"):
        run = with_more(run, "compute_s", 60.0, arm)
    found = explained(run, "chunkwise:pool=8")
    assert found.parts.bottleneck is Cause.COMPUTE and found.remedy.change is Change.PROMPTS
    assert "could save" in found.sentences[0] and "Engines don't change it" in found.sentences[1]
    alone = explained(without_floor(run), "chunkwise:pool=8")
    assert alone.parts.bottleneck is Cause.COMPUTE and "without a floor arm" in alone.sentences[0]


def test_the_cost_of_a_call_is_estimated_from_two_sizes_and_from_one_it_is_not(tmp_path: Path) -> None:
    both = made(tmp_path / "both", store="file:///tmp/kv")
    spans = both.spans.copy()
    small = (spans["kind"] == "fetch") & (spans["layer"] >= 0)
    spans.loc[small, "bytes"] = spans.loc[small, "bytes"] // 24
    fetch = spans["kind"] == "fetch"
    spans.loc[fetch, "end_s"] = spans.loc[fetch, "start_s"] + 0.003 + spans.loc[fetch, "bytes"].astype("float64") / 200e6
    loads = explained(replace(both, spans=spans)).parts.loads
    assert loads is not None and loads.link is not None and loads.estimated
    assert loads.link.latency_s == pytest.approx(0.003) and loads.link.stream_bytes_per_s == pytest.approx(200e6)
    one = explained(made(tmp_path / "one", ["chunkwise:pool=0", "floor"], "file:///tmp/kv"))
    assert one.parts.bottleneck is Cause.LOADS and "all of one size" in one.sentences[0]


@pytest.mark.parametrize("name", ["default", "gate", "lmcache-warm", "lmcache-dropped"])
def test_the_parts_add_up_to_the_mean(name: str) -> None:
    for one in explain(gather(load(REFERENCE / name))):
        assert sum(one.parts.seconds.values()) == pytest.approx(one.parts.ttft_s, rel=0.02)
        assert min(one.parts.seconds.values()) >= 0
        assert [text[-1] != "." for text in one.sentences] == [False, False, True]
        json.dumps(one.to_json(), allow_nan=False)


def test_the_reference_measurement_is_explained_as_it_was_made() -> None:
    """Its store has round trips of 2 ms and 300 MB/s a stream: a chunk takes 42 ms of bandwidth, a layer of it 1.7 ms."""
    found = {one.parts.arm.name: one for one in explain(gather(load(REFERENCE / "default")))}
    assert {name: one.parts.bottleneck for name, one in found.items()} == {
        "chunkwise:pool=0": Cause.BANDWIDTH, "chunkwise:pool=8": Cause.BANDWIDTH, "layerwise:depth=4": Cause.ROUND_TRIPS,
    }  # fmt: skip
    slow = found["chunkwise:pool=0"]
    assert (slow.remedy.change, slow.remedy.arm) == (Change.MEASURED, "chunkwise:pool=8")
    fast = found["chunkwise:pool=8"].remedy
    assert fast.change is Change.ARM and fast.arm.startswith("layerwise:groups=auto")
    assert fast.now_s is not None and fast.then_s is not None and fast.then_s < fast.now_s


def test_a_peer_whose_forward_is_slowed_is_not_told_to_change_its_store(tmp_path: Path) -> None:
    found = explained(with_more(made(tmp_path, ["theirs", "floor"]), "compute_s", 2.0, "theirs"), "theirs")
    assert found.parts.bottleneck is Cause.SLOWED and found.remedy.change is Change.UNKNOWN
    assert "store" not in found.sentences[1] and found.remedy.command == f"ttft timeline {tmp_path}"


def test_an_arm_that_was_measured_is_not_proposed_as_untried(tmp_path: Path) -> None:
    """However it is written: batch=1 is the default. Here it is the slower one, so it is not held up as better either."""
    arms = ["chunkwise:pool=0", "chunkwise:batch=1,pool=8@slow", "floor"]
    run = with_more(made(tmp_path, arms), "stall_s", 9.0, arms[1])
    remedy = explained(run).remedy
    assert remedy.change is Change.ARM and not remedy.arm.startswith("chunkwise:pool=8")


def test_no_arm_is_recommended_by_chance(tmp_path: Path) -> None:
    """Two like arms: the one with the lower mean is not held up as the better one."""
    run = made(tmp_path, ["chunkwise:pool=8", "chunkwise:pool=8@again", "floor"])
    assert all(one.remedy.change is not Change.MEASURED for one in explain(gather(run)))


def test_a_measurement_without_parts_says_so(tmp_path: Path) -> None:
    run = made(tmp_path)
    with pytest.raises(ResultsError, match="has no request that counts and says where its time went"):
        explain(gather(replace(run, requests=run.requests.assign(compute_s=float("nan")))))


def test_numbers_that_do_not_count_are_not_explained(tmp_path: Path) -> None:
    void = load(write_synthetic_run(tmp_path / "v", ["chunkwise"], 2, 2, void={0: "wrong KV", 1: "wrong KV"}))
    with pytest.raises(ResultsError, match=r"do not count .*wrong KV"):
        explain(gather(void))
    run = made(tmp_path / "f")
    with pytest.raises(ResultsError, match="load wrong KV"):
        explain(gather(replace(run, meta=run.meta | {"correctness": {"status": "failed", "detail": "x"}})))


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ttft(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ttft", *words])
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_the_commands_can_be_run(tmp_path: Path, ttft: Command) -> None:
    runs = [
        load(REFERENCE / "default"),
        with_more(made(tmp_path / "q", concurrency=4, arrivals="closed"), "queue_s", 2.0, ARMS[0]),
        with_more(made(tmp_path / "s", cache_state="natural", vllm={"max_num_seqs": 8}), "compute_s", 2.0, ARMS[2]),
        made(tmp_path / "b", store=STORE.format(50, 100_000)),
    ]
    commands = {one.remedy.command for run in runs for one in explain(gather(run))}
    measuring = [command for command in commands if command.startswith("ttft compare ")]
    assert len(measuring) >= 3
    for command in measuring:
        code, out, err = ttft(*shlex.split(command)[1:], "--dry-run")
        assert (code, err) == (0, ""), command
        assert "runs      " in out


def test_the_command_prints_three_lines_an_arm_or_values(ttft: Command) -> None:
    folder = str(REFERENCE / "default")
    code, out, _ = ttft("explain", folder)
    assert code == 0 and len(out.splitlines()) == 9
    code, out, _ = ttft("explain", folder, "--arm", "chunkwise:pool=0", "--json")
    [one] = json.loads(out)
    assert (code, one["bottleneck"], one["other_arm"]) == (0, "bandwidth", "chunkwise:pool=8")
    code, _, err = ttft("explain", folder, "--arm", "chunkwise:pool=9")
    assert code == 2 and "unknown arm of default 'chunkwise:pool=9'" in err
    code, _, err = ttft("explain", str(REFERENCE / "none"))
    assert code != 0 and err.count("\n") == 1
