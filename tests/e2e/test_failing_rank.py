"""Tensor parallelism 2 where one rank's part of a chunk is bad: nobody keeps what was computed on its empty blocks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from running import CHUNK, Running, start, tokens, two_ranks

ARMS = ["chunkwise:pool=0", "layerwise:depth=2", "deferred:release=2"]

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in two_ranks().items():
            patch.setenv(name, value)
        # A request that fails is not computed again, so what its step saved would stay.
        yield from start(tmp_path_factory.mktemp("ranks"), ARMS, tensor_parallel=2, load_failure_policy="fail")


def path_of(vllm: Running, key: str) -> Path:
    return next((vllm.folder / "store").rglob(f"{key}*"))


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("rank", [0, 1])
def test_no_rank_saves_what_was_computed_in_a_step_in_which_another_failed(vllm: Running, arm: str, rank: int) -> None:
    prompt = tokens(f"rank {rank} {arm}", 4 * CHUNK + 40)
    truth = vllm.send("recompute", prompt, 8)
    primed = set(vllm.prime(prompt, 2))
    [bad] = [key for key in vllm.session.keys(prompt[: 2 * CHUNK], vllm.namespace)[2:] if key.endswith(f"-r{rank}of2")]
    path_of(vllm, bad).write_bytes(b"x")
    every = vllm.session.keys(prompt, vllm.namespace)

    failed = vllm.send(arm, prompt, 8, save=True)
    assert failed.error != ""
    assert {key for key in every if vllm.store.exists([key])} == primed

    vllm.store.delete([bad])
    mended = vllm.send(arm, prompt, 8, save=True)
    assert (mended.cached_tokens, mended.tokens) == (CHUNK, truth.tokens)
    vllm.session.note_saves()
    assert vllm.store.exists(every) == len(every) == 2 * 4
    again = vllm.send(arm, prompt, 8)
    assert (again.cached_tokens, again.tokens) == (4 * CHUNK, truth.tokens)
