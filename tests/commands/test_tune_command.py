"""``ttft tune`` over a stand-in for vLLM: store, prediction, measurement, and the configuration that it prints."""

import json
import shlex
import sys
from collections.abc import Callable

import pytest
from fake_engine import MODEL, Lab, Served, lab

import cli
from harness.connector.settings import parse_settings
from harness.core import budget

__all__ = ["lab"]
Tune = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tune(lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tune:
    def run(*more: str) -> tuple[int, str, str]:
        words = ["--store", lab.store_url, "--model", MODEL, "--dtype", "float32", "--set", "chunk_tokens=16"]
        words += ["--workload", "shared_prefix:groups=2,prefix=32,suffix=5,prompts=2,output=3", "--set", "pairs=9"]
        monkeypatch.setattr("harness.commands.tune.end_as_by_ctrl_c", lambda: None)
        monkeypatch.setattr("harness.commands.tune.BENCH_ROUNDS", 2)
        monkeypatch.setattr(sys, "argv", ["ttft", "tune", *words, "--out", str(lab.folder), *more])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the report, whose pictures take most of a test's time."""
    monkeypatch.setattr("harness.commands.tune.show_if_any", lambda folder: None)


def config_of(out: str) -> dict[str, object]:
    line = next(line for line in out.splitlines() if line.startswith("--kv-transfer-config "))
    found: dict[str, object] = json.loads(shlex.split(line)[1])
    return found


def test_it_measures_the_store_then_arms_and_prints_what_vllm_takes(lab: Lab, tune: Tune) -> None:
    def slow_base(served: Served) -> None:
        served.ttft_s *= 3 if served.arm == "chunkwise:pool=0" else 1

    lab.vllm.tamper = slow_base
    code, out, err = tune()
    assert (code, err) == (0, ""), out
    assert "ms per call" in out and "To be measured: chunkwise:pool=0, " in out
    assert "chunkwise:pool=0 is slower: its TTFT is 3 (" in out
    config = config_of(out)
    assert (config["kv_connector"], config["kv_role"]) == ("TTFTConnector", "kv_both")
    settings, arms = parse_settings(config["kv_connector_extra_config"])  # type: ignore[arg-type]
    told = json.loads((lab.folder / "tune.json").read_text("utf-8"))
    assert list(arms) == [told["recommended"]] and told["recommended"] != "chunkwise:pool=0"
    assert (settings.store, settings.chunk_tokens) == (lab.store_url, 16)
    assert told["kv_transfer_config"] == config and all(one["low"] <= one["ratio"] <= one["high"] for one in told["ratios"])
    assert (lab.folder / "store" / "bench.csv").exists() and (lab.folder / "report.md").exists()
    assert lab.left() == set()


def test_a_password_is_not_printed(lab: Lab, tune: Tune) -> None:
    code, out, _ = tune("--store", f"{lab.store_url}?fsync=0&token_file=x", "--dry-run")
    assert code == 2
    code, out, _ = tune("--store", "redis://user:secret@127.0.0.1:1/0", "--dry-run")
    assert "secret" not in out


@pytest.mark.usefixtures("quick")
def test_void_runs_recommend_nothing(lab: Lab, tune: Tune) -> None:
    lab.vllm.tamper = lambda served: setattr(served, "cached_tokens", 0) if served.label == "1/2" else None
    code, out, err = tune()
    assert code == 4 and "nothing is recommended: " in err and "--kv-transfer-config" not in out
    assert not (lab.folder / "tune.json").exists()


@pytest.mark.usefixtures("quick")
def test_ctrl_c_recommends_nothing(lab: Lab, tune: Tune) -> None:
    def interrupt(served: Served) -> None:
        if served.label == "3/1":
            raise KeyboardInterrupt

    lab.vllm.tamper = interrupt
    code, out, _ = tune()
    assert code == 130 and "nothing is recommended" in out and "--kv-transfer-config" not in out


@pytest.mark.usefixtures("quick")
def test_the_budget_ends_it_with_what_was_measured_by_then(lab: Lab, tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    lefts = iter([100.0, 60.0, 20.0])  # the store's share has a budget of its own
    real = vars(budget.Budget)["left"].fget
    monkeypatch.setattr(budget.Budget, "left", property(lambda self: next(lefts, 1.0) if self.seconds == 600 else real(self)))
    code, out, _ = tune("--budget", "10m")
    assert code == 0 and "Recommended: " in out
    assert lab.run().meta["stopped"]["reason"] == "the budget is spent after 2 rounds"


def test_a_dry_run_starts_nothing(lab: Lab, tune: Tune) -> None:
    code, out, err = tune("--dry-run")
    assert (code, err) == (0, "")
    assert "prefixes  32 tokens, in 4 prompts" in out and "budget    10m in all" in out
    assert lab.vllm.engines == [] and not lab.folder.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budget", "20s"], "a budget of 20s ends before vLLM has started"),
        (["--set", "arms=layerwise"], "--set arms is set by ttft tune itself"),
        (["--set", "target=http://127.0.0.1:1"], "--set target is set by ttft tune itself"),
        (["--store", "nothing://here"], "unknown store 'nothing'"),
    ],
)
def test_what_will_not_do_is_one_sentence(lab: Lab, tune: Tune, words: list[str], said: str) -> None:
    code, _, err = tune(*words)
    assert code == 2 and said in err and err.count("\n") == 1
    assert lab.vllm.engines == []
