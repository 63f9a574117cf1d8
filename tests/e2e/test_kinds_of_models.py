"""Today's kinds of models through real vLLM: each hits, loads what was saved, and gives the tokens of recompute."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from running import CHUNK, Running, start, tokens
from small_models import KINDS, WINDOW, write

from harness.core.errors import SetupError
from harness.experiment.rows import load_reason
from harness.replay import models

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

ARMS = ["chunkwise:pool=4", "layerwise:depth=2"]
PROMPT = tokens("models", 3 * CHUNK + 40)
HIT = 3 * CHUNK
OUTPUT = 12
LATENT = "latent attention (DeepSeek-V2)"


@contextmanager
def running(kind: str, folder: Path) -> Iterator[Running]:
    path = write(kind, folder / "model")
    model = models.resolve(path, "float32")
    policy = "fail" if model.window else "recompute"
    yield from start(folder, ARMS, model=path, load_failure_policy=policy, environment=model.environment)


def test_latent_attention_is_refused_on_a_cpu(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="wrong tokens behind a hit"), running(LATENT, tmp_path):
        pass


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != LATENT])
def test_a_kind_of_model_loads_what_it_saved_and_gives_the_tokens_of_recompute(kind: str, tmp_path: Path) -> None:
    with running(kind, tmp_path) as vllm:
        keys = vllm.prime(PROMPT, 3)
        truth = vllm.send("recompute", PROMPT, OUTPUT)
        assert (truth.error, truth.cached_tokens) == ("", 0)
        for arm in ARMS:
            label = vllm.label()
            outcome = vllm.send(arm, PROMPT, OUTPUT, label=label)
            behind = vllm.session.behind_window(PROMPT, HIT, vllm.namespace)
            loads = vllm.loads(label)
            assert (outcome.error, outcome.cached_tokens) == ("", HIT)
            assert load_reason(loads, HIT, True, vllm.session.log.saved, keys, behind) == ""
            assert outcome.tokens == truth.tokens, f"{arm} gives other tokens than recompute"
            needed = 2 if "all layers" in kind else 3  # chunks: the window reaches 300 tokens back
            assert loads[0]["keys"] >= needed
            assert loads[0]["bytes"] <= needed * vllm.session.log.start["geometry"]["layers"] * 2**20
        assert vllm.send("floor", PROMPT, OUTPUT).tokens != truth.tokens, "wrong KV must show in this model's tokens"
        if "all layers" in kind:
            assert vllm.session.log.start["window"] == WINDOW
