"""Which model a text names, and what tells two models' KV apart."""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import SetupError, UsageError
from harness.replay.models import Model, fingerprint, resolve

TINY = "builtin:layers=1,hidden=32,intermediate=32,heads=2,head_dim=16,vocabulary=64,max_positions=128"
CONFIG = {"vocab_size": 1000, "max_position_embeddings": 2048}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def model_folder(folder: Path, config: object, weights: bytes = b"w" * 200_000) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_the_builtin_model_is_written_and_described() -> None:
    model = resolve(TINY, "float32")
    assert (model.vocabulary, model.max_positions, model.builtin) == (64, 128, True)
    assert json.loads((Path(model.path) / "config.json").read_text())["num_key_value_heads"] == 1
    assert (Path(model.path) / "model.safetensors").stat().st_size > 0


def test_its_name_names_exactly_it_in_any_dtype() -> None:
    model = resolve(TINY, "float32")
    assert resolve(model.name, "bfloat16") == model
    assert resolve(TINY, "bfloat16") != model


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("builtin:layer=3", r"unknown option of the built-in model 'layer' \(did you mean 'layers'\?\)"),
        ("builtin:layers=0", "the built-in model: layers='0' is invalid"),
        ("builtin:layers", "is not option=value"),
        ("builtin:heads=8,kv_heads=3", "not a multiple of kv_heads=3"),
        ("/no/such/model", "there is no model folder /no/such/model"),
        ("./no-such-model", "there is no model folder ./no-such-model"),
    ],
)
def test_a_wrong_model_is_refused(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(spec, "float32")


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown dtype 'float8'.*known: bfloat16, float16, float32"):
        resolve("builtin", "float8")


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        {"vocab_size": 1000, "n_positions": 2048},
        {"text_config": CONFIG, "vision_config": {"max_position_embeddings": 7}},
        {"vocab_size": 9, "text_config": CONFIG},
    ],
)
def test_a_folder_is_passed_on_as_it_is(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = model_folder(tmp_path / "llama", config)
    assert resolve(str(folder), "float32") == Model(str(folder), str(folder), 1000, 2048, builtin=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "has no config.json"),
        ("{", "config.json cannot be read"),
        ("[]", "does not hold a JSON object"),
        ('{"max_position_embeddings": 5}', "has no 'vocab_size'"),
        ('{"vocab_size": 5}', "has no 'max_position_embeddings'"),
    ],
)
def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        resolve(str(tmp_path), "float32")


class Hub:
    """Stands for transformers where there is no network."""

    def __init__(self, answer: dict[str, Any] | Exception) -> None:
        self.answer = answer
        self.AutoConfig = self

    def from_pretrained(self, name: str, local_files_only: bool) -> "Hub":
        if local_files_only:
            raise OSError("it is not cached")
        if isinstance(self.answer, Exception):
            raise self.answer
        return self

    def to_dict(self) -> dict[str, Any]:
        assert not isinstance(self.answer, Exception)
        return self.answer


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests don't ask for addresses."""
    monkeypatch.setattr("socket.getaddrinfo", lambda host, port: [])


def test_without_a_network_the_hub_is_not_tried_for_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(host: str, port: None) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("socket.getaddrinfo", unknown)
    monkeypatch.setitem(sys.modules, "transformers", Hub(CONFIG))
    with pytest.raises(UsageError, match="its address does not resolve here, and the model is not in the cache"):
        resolve("org/llama", "float32")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")  # then the proxy resolves it
    assert resolve("org/llama", "float32").name == "org/llama"


@pytest.mark.usefixtures("online")
def test_any_other_text_is_a_hub_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", Hub(CONFIG))
    assert resolve("org/llama", "float32") == Model("org/llama", "org/llama", 1000, 2048, builtin=False)


@pytest.mark.usefixtures("online")
def test_a_hub_that_does_not_know_it_ends_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", Hub(OSError("We couldn't connect\nmore\nlines")))
    with pytest.raises(UsageError, match=r"model org/llama is neither .*: We couldn't connect$"):
        resolve("org/llama", "float32")


def test_without_transformers_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SetupError, match=r"needs transformers.*make setup"):
        resolve("org/llama", "float32")


def test_a_fingerprint_does_not_depend_on_the_folder(tmp_path: Path) -> None:
    one, other = model_folder(tmp_path / "a", CONFIG), model_folder(tmp_path / "b", CONFIG)
    os.utime(other / "model.safetensors", (0, 0))
    (other / "README.md").write_text("not a weight")
    assert fingerprint(str(one)) == fingerprint(str(other))


@pytest.mark.parametrize("change", ["config", "first byte", "last byte", "length", "another file", "name"])
def test_other_weights_have_another_fingerprint(tmp_path: Path, change: str) -> None:
    folder = model_folder(tmp_path / "m", CONFIG)
    before = fingerprint(str(folder))
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    if change == "config":
        (folder / "config.json").write_text(json.dumps({**CONFIG, "rope_theta": 1.0}))
    elif change == "first byte":
        weights.write_bytes(b"x" + data[1:])
    elif change == "last byte":
        weights.write_bytes(data[:-1] + b"x")
    elif change == "length":
        weights.write_bytes(data + b"w")
    elif change == "another file":
        (folder / "model-2.safetensors").write_bytes(data)
    else:
        weights.rename(folder / "renamed.safetensors")
    assert fingerprint(str(folder)) != before


def test_builtin_models_with_other_seeds_differ() -> None:
    prints = {fingerprint(resolve(f"{TINY},seed={seed}", "float32").path) for seed in (0, 1)}
    assert len(prints) == 2


def test_a_hub_name_is_told_apart_by_its_revision() -> None:
    prints = {fingerprint(name, revision) for name in ("org/a", "org/b") for revision in (None, "main", "abc")}
    assert len(prints) == 6


def test_weights_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", CONFIG)
    (folder / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SetupError, match=r"gone.safetensors cannot be read: No such file"):
        fingerprint(str(folder))


def test_a_model_with_attention_sinks_is_started_without_split_kv_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"vocab_size": 64, "max_position_embeddings": 128, "model_type": "gpt_oss"}
    monkeypatch.setattr("harness.replay.models.uses_gpu", lambda: False)
    assert resolve(str(model_folder(tmp_path / "sinks", config)), "float32").environment == {"VLLM_CPU_ATTN_SPLIT_KV": "0"}
    assert resolve(str(model_folder(tmp_path / "none", {**config, "model_type": "llama"})), "float32").environment == {}
    monkeypatch.setattr("harness.replay.models.uses_gpu", lambda: True)
    assert resolve(str(model_folder(tmp_path / "gpu", config)), "float32").environment == {}
