"""Servers without our connector as arms, over stand-ins: what is proven there and how, fresh prompts, resets, refusals."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from plain_server import HITS, PlainServer
from stub_vllm import serving
from typer.testing import CliRunner

from harness import report
from harness.commands.app import app
from harness.core.errors import RunError, SetupError, UsageError, VoidRuns
from harness.experiment import at_targets, targets_session
from harness.experiment.conduct import measure
from harness.experiment.hooks import Hooks
from harness.experiment.plan import Setting, settle
from harness.experiment.record import earlier_of
from harness.experiment.settings import merge
from harness.experiment.target_arm import parse_target
from harness.results import Measurement, load

WORKLOAD = "shared_prefix:groups=2,prefix=40,suffix=6,prompts=2"
MODEL = "builtin:layers=2,hidden=64,intermediate=64,vocabulary=256"


def setting(*servers: PlainServer, options: str = "", **changes: Any) -> Setting:
    arms = [f"target:{server.url},name={'abc'[place]}{options}" for place, server in enumerate(servers)]
    plain = {"workload": WORKLOAD, "model": MODEL, "chunk_tokens": 16, "pairs": 2, "arms": arms, "target_timeout_s": 5.0}
    return settle(merge(plain, changes))


def run(folder: Path, *servers: PlainServer, options: str = "", **changes: Any) -> Measurement:
    with contextlib.ExitStack() as stack:
        for server in servers:
            if not server.url:
                stack.enter_context(serving(server))  # type: ignore[arg-type]
        measure(setting(*servers, options=options, **changes), folder / "run", "ttft compare", Hooks())
    return load(folder / "run")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets_session, "SETTLE_S", 0.2)
    monkeypatch.setattr(targets_session, "COUNTED_S", 0.0)
    monkeypatch.setattr(at_targets, "SETTLE_S", 0.2)


def test_two_servers_take_turns_and_each_run_primes_and_hits_prompts_of_its_own(tmp_path: Path) -> None:
    one, other = PlainServer(), PlainServer()
    found = run(tmp_path, one, other)
    assert (found.meta["status"], found.void_runs) == ("complete", {})
    assert [entry["arm"] for entry in found.meta["runs"]] == ["a", "b", "b", "a"]
    rows = found.requests
    # Primed are 2 whole chunks of 16; the second prompt of a group hits all 40 that both have, in blocks of 8.
    assert rows["hit_tokens"].tolist() == [32, 32, 40, 40] * 4
    assert (rows["expected_hit_tokens"] == rows["hit_tokens"]).all() and rows["output_digest"].isna().all()
    measured = [tuple(body["prompt"]) for body in one.bodies if len(body["prompt"]) == 46]
    assert len(set(measured)) == 2 * 4 + 1  # of two runs, and the warm-up's
    assert all("kv_transfer_params" not in body for body in one.bodies)
    assert {name: told["proof"] for name, told in found.meta["targets"].items()} == {"a": "cached tokens", "b": "cached tokens"}
    assert found.meta["correctness"]["status"] == "passed"


def test_what_is_proven_and_how_stands_in_the_report(tmp_path: Path) -> None:
    found = run(tmp_path, PlainServer(), PlainServer(tells=False, metrics=HITS), PlainServer(tells=False))
    assert (found.meta["status"], found.void_runs) == ("complete", {})
    assert [told["proof"] for told in found.meta["targets"].values()] == ["cached tokens", "metrics", "none"]
    assert found.requests[found.requests["arm"] != "a"]["hit_tokens"].isna().all()
    assert [warning for warning in found.meta["warnings"] if "Nothing shows what the requests of c hit" in warning]
    text = (report.of(found).write(tmp_path / "out"), (tmp_path / "out" / "report.md").read_text())[1]
    assert "| hits shown by |" in text and "cached tokens" in text and "metrics" in text


def test_a_declared_hit_is_called_that(tmp_path: Path) -> None:
    found = run(tmp_path, PlainServer(tells=False), options=",expect_hit=workload")
    assert found.meta["targets"]["a"]["proof"] == "declared"


@pytest.mark.parametrize("told", [{"tells": True}, {"tells": False, "metrics": HITS}])
def test_a_hit_that_the_workload_does_not_imply_voids_the_run(tmp_path: Path, told: dict[str, Any]) -> None:
    server = PlainServer(**told)
    server.mangle = lambda hit: hit if len(server.bodies) < 20 or hit != 40 else 0
    found = run(tmp_path, server, pairs=3, correctness_prompts=0)
    assert found.meta["status"] == "void"
    assert 0 < len(found.void_runs) < 3
    assert all("but the workload implies" in reason for reason in found.void_runs.values())


def test_a_miss_that_other_hits_make_up_for_voids_the_run(tmp_path: Path) -> None:
    wide: dict[str, Any] = {
        "workload": "shared_prefix:groups=2,prefix=46,suffix=6,prompts=4",
        "chunk_tokens": 32,
        "correctness_prompts": 0,
    }
    for first_missed, voids in ((10**6, 0), (34, 1)):  # of the last run, whose sum is still more than 8 * 32
        server = PlainServer(tells=False, metrics=HITS)
        server.mangle = lambda hit, at=first_missed, server=server: 0 if len(server.bodies) == at else hit  # type: ignore[misc]
        found = run(tmp_path / str(voids), server, pairs=3, **wide)
        assert len(found.void_runs) == voids, found.void_runs
    assert "264 tokens hit by the server's /metrics, and 304 in an earlier run" in next(iter(found.void_runs.values()))


def test_a_longer_hit_than_prompts_share_voids_the_run_as_a_shared_store_gives_it(tmp_path: Path) -> None:
    server = PlainServer()
    server.mangle = lambda hit: 44 if len(server.bodies) > 14 and hit else hit
    found = run(tmp_path, server, correctness_prompts=0)
    assert "hit 44 tokens, but the workload implies 32 to 40" in found.void_runs.values()


def test_a_server_that_caches_nothing_is_refused_unless_that_is_declared(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"hits 0 of 16 tokens that it has just served.*expect_hit=none"):
        run(tmp_path, PlainServer(keeps=False))
    found = run(tmp_path / "declared", PlainServer(keeps=False), options=",expect_hit=none")
    assert found.meta["status"] == "complete" and (found.requests["hit_tokens"] == 0).all()


def test_a_server_s_own_reset_empties_its_cache_before_every_run(tmp_path: Path) -> None:
    server, flushed = PlainServer(reset="/reset_prefix_cache"), PlainServer(reset="/flush_cache")
    found = run(tmp_path, server, flushed)
    assert (server.resets, flushed.resets) == (1 + 2, 1 + 2)  # once to find out, and before each run
    assert [told["reset"] for told in found.meta["targets"].values()] == ["/reset_prefix_cache", "/flush_cache"]
    kept = PlainServer(reset="/reset_prefix_cache")
    run(tmp_path / "kept", kept, options=",reset=never")
    assert kept.resets == 0


def test_a_reset_before_each_request_shows_what_lies_behind_the_server_s_own_cache(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"reset=request, and the server at .* has no way to empty its cache"):
        run(tmp_path, PlainServer(), options=",reset=request")
    with pytest.raises(UsageError, match="serve one at a time"):
        setting(PlainServer(url="http://h:1"), options=",reset=request", concurrency=2)
    server = PlainServer(reset="/reset_prefix_cache")  # nothing lies behind it
    with pytest.raises(RunError, match=r"does not hit what it has served: 0 of 32 tokens"):
        run(tmp_path / "behind", server, options=",reset=request", correctness_prompts=0)


def test_natural_runs_start_without_anything_of_theirs(tmp_path: Path) -> None:
    found = run(tmp_path, PlainServer(), cache_state="natural")
    assert found.requests["hit_tokens"].tolist() == [0, 0, 40, 40] * 2 and found.void_runs == {}


def test_different_answers_are_reported_and_end_it_only_if_that_was_asked_for(tmp_path: Path) -> None:
    found = run(tmp_path, PlainServer(), PlainServer(salt=1))
    assert found.meta["correctness"] == {
        "status": "skipped",
        "detail": "4 of 8 answers of 2 servers equal the first one's for the same prompt",
        "equal_answers": 4,
        "answers": 8,
    }
    assert any("equal the first one's" in warning for warning in found.meta["warnings"])
    with pytest.raises(VoidRuns, match="4 of 8 answers of 2 servers equal"):
        run(tmp_path / "same", PlainServer(), PlainServer(salt=1), same_tokens=True)


@pytest.mark.parametrize(
    "server", [PlainServer(answer="text"), PlainServer(answer="reasoning"), PlainServer(answer="pairs", counts=True)]
)
def test_an_answer_of_text_is_timed_and_counted(tmp_path: Path, server: PlainServer) -> None:
    found = run(tmp_path, server, workload=f"{WORKLOAD},output=4")
    rows = found.requests
    assert rows["ttft_s"].notna().all() and (rows["output_tokens"] == 4).all() and rows["error"].isna().all()


def test_a_text_server_s_tokens_that_come_in_twos_without_a_count_are_refused_by_name(tmp_path: Path) -> None:
    found = run(tmp_path, PlainServer(answer="pairs", gap_s=0.02), workload=f"{WORKLOAD},output=8", pairs=1)
    assert "tokens are held back between server and client" in found.void_runs[0]


def test_a_key_of_its_own_and_a_context_that_is_too_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_B", "s3cret")
    assert run(tmp_path, PlainServer(key="s3cret"), options=",key=KEY_OF_B").meta["status"] == "complete"
    short = PlainServer(models={"data": [{"id": "plain", "max_model_len": 32}]})
    with pytest.raises(SetupError, match="takes 32 tokens, the longest prompt and its answer need 50"):
        run(tmp_path / "short", short)


def test_a_run_can_be_resumed(tmp_path: Path) -> None:
    server = PlainServer(tells=False, metrics=HITS)
    with serving(server):  # type: ignore[arg-type]
        first = run(tmp_path, server, pairs=1)
        more = setting(server, pairs=2)
        measure(more, tmp_path / "run", "ttft compare", Hooks(), earlier_of(first, more))
    found = load(tmp_path / "run")
    assert found.requests["run"].tolist() == [0] * 4 + [1] * 4 and found.void_runs == {}


@pytest.mark.parametrize(
    ("arms", "error"),
    [
        (["target:http://h:1", "chunkwise:pool=8"], r"the arm chunkwise:pool=8 is no server, and the arms .* all servers"),
        (["target:http://h:1", "target:http://h:1"], r"listed twice|two arms are called"),
        (["target:http://h:1,name=a", "target:http://h:2,name=a"], "two arms are called a; give one of them another name"),
        (["target:http://h:1,name=floor"], "name=floor cannot be the name of an arm"),
        (["target:http://h:1,speed=2"], "unknown option of arm 'target' 'speed'"),
        (["target:name=a"], "is written target:http://HOST:PORT"),
        (["target:http://me:s3cret@h:1"], "a key goes into the environment variable"),
        (["target:h:1"], "target"),
    ],
)
def test_arms_that_cannot_be_meant_are_one_sentence(arms: list[str], error: str) -> None:
    with pytest.raises(UsageError, match=error) as raised:
        settle(merge({"workload": WORKLOAD, "model": MODEL, "chunk_tokens": 16, "arms": arms}))
    assert "s3cret" not in str(raised.value)


def test_a_name_left_out_is_the_address_and_a_label_makes_a_second_arm() -> None:
    arms = ["target:http://h:1/v1", "target:http://h:1@again"]
    found = settle(merge({"workload": WORKLOAD, "model": MODEL, "chunk_tokens": 16, "arms": arms}))
    assert list(found.arms) == ["h:1", "h:1@again"]
    assert found.targets[0].options.url == "http://h:1"


def test_a_target_without_our_connector_is_measured_as_it_is_unless_arms_are_asked_for(tmp_path: Path) -> None:
    words = ["compare", "--model", MODEL, "--workload", WORKLOAD, "--set", "chunk_tokens=16", "--pairs", "1"]
    with serving(PlainServer()) as url:  # type: ignore[arg-type]
        ended = CliRunner().invoke(app, [*words, "--target", url, "--out", str(tmp_path / "run")])
        assert ended.exit_code == 0, f"{ended.output}{ended.exception}"
        assert f"has no connector of ours, so it is measured as it is: --arm target:{url}" in ended.output
        assert [arm["engine"] for arm in load(tmp_path / "run").meta["arms"]] == ["target"]
        ended = CliRunner().invoke(app, [*words, "--target", url, "--arm", "chunkwise:pool=8", "--out", str(tmp_path / "ours")])
    assert ended.exit_code != 0 and "is no vLLM" in str(ended.exception)


def test_a_key_that_is_given_itself_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match="no name of one") as found:
        parse_target("target:http://127.0.0.1:8000,key=sk-hunter2")
    assert "hunter2" not in str(found.value)
