"""Two servers in one measurement, judged: the same one passes, one that is slower by a fifth is found. Times are made up."""

import contextlib
import json
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.commands.app import app
from harness.experiment import at_targets
from harness.experiment.conduct import measure
from harness.experiment.hooks import Hooks
from harness.experiment.plan import settle
from harness.experiment.settings import merge
from harness.gate import Outcome, judge_run
from harness.gate.alike import calibrate_run, like_arms
from harness.replay import outcome
from harness.replay.target import Target
from harness.results import Measurement, load

CLOCK = {"requests": 0}
"""The machine gets slower by 40% in 500 requests, for whichever server."""


class NoMetrics:
    """An HTTP client of a server that answers nothing but completions."""

    def get(self, *args: Any, **more: Any) -> Any:
        raise OSError("there is none")

    post = get


class Timed:
    """A server whose first token takes a tenth of a second, and longer by what its address says."""

    def __init__(self, url: str) -> None:
        self.target, self.http = Target(url, "", "m", 0, None), NoMetrics()
        self._seen: set[tuple[int, ...]] = set()
        self._random = np.random.default_rng(zlib.crc32(url.encode()))
        self._slower = 1.2 if "slow" in url else 1.0

    async def generate(
        self, request_id: str, tokens: Sequence[int], output_tokens: int, params: Mapping[str, Any], heard: Any = None
    ) -> outcome.Outcome:
        CLOCK["requests"] += 1
        drift = 1 + 0.4 * CLOCK["requests"] / 500
        ttft_s = 0.1 * self._slower * drift * float(np.exp(self._random.normal(0, 0.02)))
        heads = [tuple(tokens[:end]) for end in range(8, len(tokens) + 1, 8)]
        hit = 8 * sum(head in self._seen for head in heads if len(head) < len(tokens))
        self._seen.update(heads)
        return outcome.Outcome(0.0, ttft_s, ttft_s + 0.01, tokens=(7,) * output_tokens, cached_tokens=hit)


PLAIN = {
    "workload": "shared_prefix:groups=2,prefix=40,suffix=6,prompts=4",
    "chunk_tokens": 16,
    "model": "builtin:layers=2,hidden=64,intermediate=64,vocabulary=256",
}


def connect(monkeypatch: pytest.MonkeyPatch) -> None:
    servers: dict[str, Timed] = {}

    @contextlib.asynccontextmanager
    async def connected(url: str, silence_s: float, key: str = "", authority: str = "") -> AsyncIterator[Timed]:
        yield servers.setdefault(url, Timed(url))

    monkeypatch.setattr(at_targets, "connected_to_any", connected)
    CLOCK["requests"] = 0


def measured(folder: Path, monkeypatch: pytest.MonkeyPatch, *arms: str) -> Measurement:
    connect(monkeypatch)
    measure(settle(merge(PLAIN, {"arms": list(arms), "pairs": 8})), folder, "ttft compare", Hooks())
    return load(folder)


def test_a_server_against_its_like_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    like = measured(tmp_path / "like", monkeypatch, "target:http://a:1,name=a", "target:http://b:1,name=b")
    verdict = judge_run(like, "b", "a", {"p50": 0.05})
    assert (verdict.outcome, like.void_runs) == (Outcome.PASS, {})


def test_the_gate_measures_two_servers_and_finds_the_one_that_is_slower_by_a_fifth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch)
    words = ["gate", "--run", "default", "--base", "target:http://a:1,name=a", "--candidate", "target:http://slow:1,name=b"]
    words += [word for name, value in PLAIN.items() for word in ("--set", f"{name}={value}")]
    ended = CliRunner().invoke(app, [*words, "--max", "p50:10%", "--pairs", "8", "--out", str(tmp_path / "run")])
    assert ended.exit_code == 1, f"{ended.output}{ended.exception}"
    [metric] = json.loads((tmp_path / "run" / "verdict.json").read_text())["metrics"]
    assert metric["outcome"] == "FAIL" and 1.1 < metric["low"] < 1.2 < metric["high"] < 1.3


def test_a_server_against_itself_shows_the_smallest_margin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = measured(tmp_path / "run", monkeypatch, "target:http://a:1", "target:http://a:1@again")
    assert like_arms(run) == ("a:1", "a:1@again")
    assert calibrate_run(run, "a:1", "a:1@again", ["p50"]).n_pairs == 8
