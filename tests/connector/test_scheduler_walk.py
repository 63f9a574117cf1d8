"""Random walks of the scheduler's side through chunked prefill, preemption and failures, against a model of the KV.

The model knows of each block which tokens it holds the KV of, or that it holds garbage. So it can tell
whether what is loaded and saved is right, whatever the order of things.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from standins import BLOCK, CHUNK, PER, DictStore, Scheduler, keys_of, make_request, make_side

from harness.connector.step import Step
from harness.core.chunks import SKIP

Tokens = tuple[int, ...]
GARBAGE = None


PROMPTS: dict[str, Tokens] = {
    "a": tuple(range(3 * CHUNK + 3)),
    "b": (*range(2 * CHUNK), *range(500, 500 + CHUNK + 1)),
    "c": tuple(range(700, 700 + 2 * CHUNK)),
    "d": tuple(range(3 * CHUNK + 1)),
}
KEYS = {name: keys_of(prompt) for name, prompt in PROMPTS.items()}


@dataclass
class World:
    """A scheduler with its requests, the blocks' contents and a store of token heads by key."""

    store: DictStore = field(default_factory=DictStore)
    holds: dict[int, Tokens | None] = field(default_factory=dict)
    stored: dict[str, Tokens | None] = field(default_factory=dict)
    saves: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(make_side(self.store))

    def add(self, name: str, params: dict[str, Any]) -> None:
        self.scheduler.add(make_request(name, PROMPTS[name], params))

    def step(self, scheduled: dict[str, int], broken: set[str]) -> None:
        """One step. Chunks whose keys are in ``broken`` cannot be loaded."""
        before = {name: self.scheduler.live[name].running for name in scheduled}
        step = self.scheduler.step(scheduled)
        invalid = self._load(step, broken, before)
        for name in scheduled:
            self._compute(name, scheduled[name])
        if not invalid:
            self._save(step)
        else:
            self.failed.update(scheduled)
            self.scheduler.fail(invalid, [name for name, live in self.scheduler.live.items() if live.running])

    def _load(self, step: Step, broken: set[str], running: dict[str, bool]) -> set[int]:
        invalid = set()
        for load in step.loads:
            name, blocks = load.request.request, load.request.blocks
            live = self.scheduler.live[name]
            assert not running[name], "a running request was loaded a second time"
            keys = KEYS[name]
            assert load.request.chunks == tuple(keys[: len(load.request.chunks)])
            assert blocks == tuple(live.blocks[: len(blocks)])
            assert len(blocks) == PER * len(load.request.chunks)
            assert SKIP not in blocks
            for i, key in enumerate(load.request.chunks):
                for j in range(i * PER, (i + 1) * PER):
                    self.holds[blocks[j]] = GARBAGE
                    if key in broken and load.arm != "floor":
                        invalid.add(blocks[j])
                    elif load.arm != "floor" and self.stored[key] is not GARBAGE:
                        self.holds[blocks[j]] = PROMPTS[name][: (j + 1) * BLOCK]
        return invalid

    def _compute(self, name: str, count: int) -> None:
        """Fill the blocks of the last ``count`` tokens: rightly where all blocks before them are right."""
        live = self.scheduler.live[name]
        tokens = self._tokens(name)
        for i in range((live.computed - count) // BLOCK, -(-live.computed // BLOCK)):
            right = all(self.holds[live.blocks[j]] == tokens[: (j + 1) * BLOCK] for j in range(i))
            self.holds[live.blocks[i]] = tokens[: min((i + 1) * BLOCK, live.computed)] if right else GARBAGE

    def _tokens(self, name: str) -> Tokens:
        """The prompt and what follows it, which differs from request to request."""
        return (*PROMPTS[name], *(1000 * ord(name) + i for i in range(200)))

    def _save(self, step: Step) -> None:
        for save in step.saves:
            prompt, index = PROMPTS[save.request], KEYS[save.request].index(save.key)
            assert save.blocks == tuple(self.scheduler.live[save.request].blocks[index * PER : (index + 1) * PER])
            end = (index + 1) * CHUNK
            wanted = [prompt[: end - (PER - 1 - j) * BLOCK] for j in range(PER)]
            assert [self.holds[block] for block in save.blocks] == wanted, f"chunk {index} was saved without its KV"
            self.saves[save.request, save.key] += 1
            if save.replace or save.key not in self.stored:
                self.stored[save.key] = prompt[:end]
                self.store.data[save.key] = b""


PARAMS = st.fixed_dictionaries(
    {"arm": st.sampled_from(["chunkwise:pool=0", "layerwise:depth=2", "recompute", "floor"]), "save": st.booleans()},
    optional={"max_hit_tokens": st.integers(0, 30), "label": st.just("x")},
)
EVENT = st.one_of(
    st.tuples(st.just("step"), st.dictionaries(st.sampled_from("abcd"), st.integers(1, 14), min_size=1)),
    st.tuples(st.just("fail"), st.dictionaries(st.sampled_from("abcd"), st.integers(1, 14), min_size=1)),
    st.tuples(st.just("preempt"), st.sampled_from("abcd")),
    st.tuples(st.just("again"), st.sampled_from("abcd")),
)


@settings(deadline=None, max_examples=150)
@given(params=st.lists(PARAMS, min_size=4, max_size=4), events=st.lists(EVENT, max_size=25), fault=st.integers(0, 3))
def test_nothing_but_right_kv_is_saved_and_all_of_it(
    params: list[dict[str, Any]], events: list[tuple[str, Any]], fault: int
) -> None:
    world = World()
    live = world.scheduler.live
    for name, chosen in zip("abcd", params, strict=True):
        world.add(name, chosen)
    for kind, value in events:
        if kind in ("step", "fail"):
            world.step(value, {KEYS[name][-1 - fault % 2] for name in "abcd"} if kind == "fail" else set())
        elif kind == "preempt" and live[value].running:
            world.scheduler.preempt(value)
        elif kind == "again":
            chosen = params["abcd".index(value)]
            world.scheduler.finish(value)
            world.add(value, chosen)
            for key in [key for key in world.saves if key[0] == value]:
                del world.saves[key]
            world.failed.discard(value)
    for name in "abcd":
        left = len(PROMPTS[name]) - live[name].computed
        world.step({name: left if left > 0 else 1}, set())
        left = len(PROMPTS[name]) - live[name].computed
        if left > 0:  # it had been granted less than it lost
            world.step({name: left}, set())
    for name, chosen in zip("abcd", params, strict=True):
        saved = [count for (owner, _), count in world.saves.items() if owner == name]
        if chosen["arm"] == "floor" or not chosen["save"]:
            assert saved == []
        elif name not in world.failed:
            assert set(saved) <= {1}, "a chunk was saved twice"
            assert set(KEYS[name]) <= set(world.stored)
        world.scheduler.finish(name)
    assert world.scheduler.side._tracked == {}
