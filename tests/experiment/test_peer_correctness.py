"""Before a peer is timed: what it loads gives the tokens that computing gave."""

import os
from collections.abc import Callable

import pytest
from fake_engine import CHUNK
from peer_engine import Asked, PeerLab, peer_lab

from harness.core.errors import RunError, VoidRuns
from harness.experiment.correctness import OUTPUT_TOKENS, check_peer
from harness.workloads.base import Prompt

__all__ = ["peer_lab"]

CHOSEN = [(Prompt("p0", tuple(range(2 * CHUNK + 5)), 0, 2), 2 * CHUNK), (Prompt("p1", tuple(range(60)), 0, 2), CHUNK)]


@pytest.mark.parametrize("spec", ["lmcache", "example"])
async def test_every_chosen_length_is_computed_and_then_loaded(peer_lab: PeerLab, spec: str) -> None:
    peer_lab.engine.whole = spec == "example"
    told = await check_peer(peer_lab.session(spec), spec, CHOSEN, vocabulary=256)
    assert told == {"status": "passed", "prompts": 2, "output_tokens": OUTPUT_TOKENS, "arms": [spec]}
    measured = [asked for asked in peer_lab.engine.asked if len(asked.output) == OUTPUT_TOKENS]
    assert [asked.hit > 0 for asked in measured] == [False, True] * 2
    assert [len(asked.tokens) for asked in measured] == [33, 33, 52, 52]
    assert not {asked.tokens for asked in measured} & {prompt.tokens for prompt, _ in CHOSEN}


def always_hits(asked: Asked) -> None:
    if len(asked.tokens) == 52:
        asked.hit = CHUNK


def never_hits_when_measured(asked: Asked) -> None:
    if len(asked.output) == OUTPUT_TOKENS:
        asked.hit = 0


def wrong_kv(asked: Asked) -> None:
    if asked.hit:
        asked.output[3:] = [token ^ 1 for token in asked.output[3:]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (always_hits, f"hit {CHUNK} tokens of a prompt that it had never seen"),
        (never_hits_when_measured, "hit nothing of a prompt that it had stored"),
        (wrong_kv, "only 3 of 8 tokens equal those that were computed"),
    ],
)
async def test_a_wrong_peer_is_named_with_what_is_wrong(peer_lab: PeerLab, change: Callable[[Asked], None], reason: str) -> None:
    peer_lab.engine.tamper = change
    with pytest.raises(VoidRuns, match=f"arm lmcache is not correct, so nothing was timed: {reason}"):
        await check_peer(peer_lab.session(), "lmcache", CHOSEN, vocabulary=256)


@pytest.mark.parametrize("loading", [False, True])
async def test_a_request_that_fails_ends_the_pass(peer_lab: PeerLab, loading: bool) -> None:
    def fail(asked: Asked) -> None:
        if len(asked.output) == OUTPUT_TOKENS and bool(asked.hit) == loading:
            asked.error = "it broke"

    peer_lab.engine.tamper = fail
    with pytest.raises(RunError, match="the correctness pass failed in arm lmcache: it broke"):
        await check_peer(peer_lab.session(), "lmcache", CHOSEN, vocabulary=256)


def test_nothing_is_timed_with_a_wrong_peer(peer_lab: PeerLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    peer_lab.engine.tamper = wrong_kv
    with pytest.raises(VoidRuns, match="arm lmcache is not correct"):
        peer_lab.measure("lmcache")
    assert peer_lab.left() == []
    assert peer_lab.engine.closed == 1
