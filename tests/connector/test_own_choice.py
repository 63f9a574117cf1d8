"""Arms that choose how to load: what they are offered, that the choice reaches the worker, and that it is noted and counted."""

from dataclasses import replace

import pytest
from standins import BLOCK, CHUNK, DictStore, Scheduler, keys_of, make_request, make_side, put

from harness.connector.scheduler_side import SchedulerSide
from harness.connector.settings import ConnectorSettings
from harness.core.chunks import KVGeometry, Layout
from harness.engines.auto import Auto
from harness.engines.base import Choice, EngineOptions, Offer

PROMPT = list(range(100, 100 + 4 * CHUNK + 3))
GEOMETRY = KVGeometry(layers=6, block_tokens=BLOCK, block_bytes=1000, chunk_blocks=CHUNK // BLOCK, dtype="bfloat16")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Offer]:
    """The offers that reach ``auto``, which always takes one chunk in pieces of two layers."""
    offers: list[Offer] = []

    def choose(cls: type[Auto], options: EngineOptions, offer: Offer) -> Choice:
        offers.append(offer)
        return Choice(1, how="hybrid:k=1,groups=2", why="it was told to")

    monkeypatch.setattr(Auto, "choose", classmethod(choose))
    return offers


@pytest.fixture
def scheduler() -> Scheduler:
    full = DictStore()
    put(full, keys_of(PROMPT))
    side = make_side(full, arms=("auto", "chunkwise:pool=0"))
    side._shape = (GEOMETRY.layers, Layout(GEOMETRY).layer_stride)
    return Scheduler(side)


def test_the_choice_reaches_the_load_and_its_reason_the_lookup(scheduler: Scheduler, asked: list[Offer]) -> None:
    scheduler.add(make_request("r", PROMPT, {"label": "x"}))
    step = scheduler.step({"r": 3 * CHUNK + 3})
    assert step.loads[0].request.how == "hybrid:k=1,groups=2"
    assert (step.notes[0].how, step.notes[0].why) == ("hybrid:k=1,groups=2", "it was told to")
    assert scheduler.side.take_choices() == {("auto", "hybrid"): 1}
    assert scheduler.side.take_choices() == {}


def test_an_offer_says_what_others_load_in_the_same_step(scheduler: Scheduler, asked: list[Offer]) -> None:
    for name in "abc":
        scheduler.add(make_request(name, PROMPT, {"arm": "chunkwise:pool=0"} if name == "b" else None))
    scheduler.step(dict.fromkeys("abc", 3 * CHUNK + 3))
    scheduler.add(make_request("d", PROMPT))
    scheduler.step({"d": 3 * CHUNK + 3})
    told = [(offer.number, offer.beside_chunks, offer.beside_tokens) for offer in asked]
    rest_of_a, rest_of_b = 3 * CHUNK + 3, 3
    assert told == [(0, 0, 0), (1, 1 + 4, rest_of_a + rest_of_b), (2, 0, 0)]
    first = replace(asked[0], number=0)
    assert first == Offer(4, CHUNK, len(PROMPT), [], 6, 4096)


def test_an_arm_that_does_not_choose_is_not_counted(scheduler: Scheduler) -> None:
    scheduler.add(make_request("r", PROMPT, {"arm": "chunkwise:pool=0", "label": "x"}))
    note = scheduler.step({"r": 3}).notes[0]
    assert (note.how, note.why) == ("", "")
    assert scheduler.side.take_choices() == {}


def test_the_side_knows_the_shape_that_it_is_given() -> None:
    side = SchedulerSide(ConnectorSettings(store="dict://"), {}, DictStore(), {}, 2, 1, geometry=GEOMETRY)
    assert side._shape == (6, 4096)
