"""The built-in model: the same bytes everywhere, weights of a real scale, and never half a model in the cache."""

import hashlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors import safe_open

from harness.core.errors import SetupError, UsageError
from harness.replay.builtin_model import (
    BuiltinOptions,
    as_bfloat16,
    cache_folder,
    ensure_written,
    random_weights,
    safetensors_header,
    shapes_of,
)

TINY = BuiltinOptions(layers=2, hidden=64, intermediate=96, heads=2, kv_heads=1, head_dim=32, vocabulary=128, max_positions=256)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "ttft" / "models"


def files_of(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


@pytest.mark.parametrize(("dtype", "size"), [("bfloat16", 2), ("float16", 2), ("float32", 4)])
def test_a_token_has_48_kib_of_kv_in_any_dtype(dtype: str, size: int) -> None:
    options = BuiltinOptions().completed(dtype)
    assert options.kv_heads is not None
    assert 2 * options.layers * options.kv_heads * options.head_dim * size == 48 * 1024


def test_kv_heads_may_be_chosen_but_must_divide_the_heads() -> None:
    assert BuiltinOptions(kv_heads=2).completed("float32").kv_heads == 2
    assert BuiltinOptions(heads=1).completed("float32").kv_heads == 1
    with pytest.raises(UsageError, match="heads=8 is not a multiple of kv_heads=3"):
        BuiltinOptions(kv_heads=3).completed("float32")


def test_the_written_model_is_what_the_library_reads() -> None:
    folder = ensure_written(TINY)
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == shapes_of(TINY)
    for name, tensor in tensors.items():
        assert tensor.dtype == torch.bfloat16
        if tensor.ndim == 1:
            assert bool((tensor == 1).all())
        else:
            assert 0.04 < tensor.float().std().item() < 0.06, name
    assert not torch.equal(tensors["model.layers.0.self_attn.q_proj.weight"], tensors["model.layers.1.self_attn.q_proj.weight"])


def test_the_bytes_are_the_same_everywhere() -> None:
    """Stored KV is found by the weights' fingerprint: another stream of weights needs a new WRITER number."""
    data = (ensure_written(TINY) / "model.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest()[:16] == "dba1da5b18b1410a"


def test_any_other_option_is_another_model() -> None:
    folders = {
        ensure_written(TINY.model_copy(update=change)) for change in ({}, {"seed": 1}, {"std": 0.1}, {"max_positions": 512})
    }
    assert len(folders) == 4
    assert len({(folder / "model.safetensors").read_bytes() for folder in folders}) == 3  # positions are not weights


def test_a_second_call_writes_nothing() -> None:
    before = (ensure_written(TINY) / "model.safetensors").stat()
    after = (ensure_written(TINY) / "model.safetensors").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_many_at_once_agree_and_leave_nothing_behind(cache: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: ensure_written(TINY), range(8)))
    assert len(folders) == 1
    assert files_of(cache) == {folders.pop().name}


@pytest.mark.parametrize("damage", ["cut", "no weights", "no config", "empty"])
def test_half_a_model_is_replaced(damage: str, cache: Path) -> None:
    folder = ensure_written(TINY)
    whole = (folder / "model.safetensors").read_bytes()
    if damage == "cut":
        os.truncate(folder / "model.safetensors", len(whole) - 1)
    if damage in ("no weights", "empty"):
        (folder / "model.safetensors").unlink()
    if damage in ("no config", "empty"):
        (folder / "config.json").unlink()
    assert ensure_written(TINY) == folder
    assert (folder / "model.safetensors").read_bytes() == whole
    assert files_of(folder) == {"config.json", "model.safetensors"}
    assert files_of(cache) == {folder.name}


def test_a_failed_write_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.replay.builtin_model.random_weights", full)
    with pytest.raises(SetupError, match=rf"cannot be written to {cache}.*: No space left on device; set XDG_CACHE_HOME"):
        ensure_written(TINY)
    assert files_of(cache) == set()


def test_what_a_killed_writer_left_goes_once_nobody_writes_to_it_any_more(cache: Path) -> None:
    for age_s, name in ((3700, "killed"), (10, "alive")):
        weights = cache / f".writing-{name}" / "model" / "model.safetensors"
        weights.parent.mkdir(parents=True)
        weights.write_bytes(b"half")
        for path in (weights, weights.parent, weights.parent.parent):
            os.utime(path, (time.time() - age_s,) * 2)
    os.utime(cache / ".writing-alive", (1.0, 1.0))  # only its file grows
    ensure_written(TINY)
    assert {path.name for path in cache.glob(".writing-*")} == {".writing-alive"}


def test_a_model_that_the_disk_cannot_hold_is_refused_before_a_byte_is_written(cache: Path) -> None:
    largest = {"layers": 1024, "hidden": 2**17, "intermediate": 2**19, "heads": 1024, "head_dim": 1024, "vocabulary": 2**24}
    with pytest.raises(
        SetupError, match=r"the built-in model takes [\d,.]+ GiB, and [\d,.]+ GiB are free at .*; choose a smaller"
    ):
        ensure_written(BuiltinOptions(**largest, kv_heads=1024))
    assert not list(cache.iterdir())
    for name, value in largest.items():
        with pytest.raises(ValidationError):
            BuiltinOptions(**{name: value + 2})


def test_a_cache_that_cannot_be_a_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(SetupError, match="set XDG_CACHE_HOME"):
        ensure_written(TINY)


def test_the_cache_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == tmp_path / "ttft" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "ttft" / "models"


@settings(deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**100), max_value=2.0**100), min_size=1)
)
def test_rounding_to_bfloat16_is_torchs(values: list[float]) -> None:
    expected = torch.tensor(values, dtype=torch.float32).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    assert as_bfloat16(np.array(values, dtype=np.float32)).tolist() == expected.tolist()


def test_weights_are_nearly_normal_and_do_not_depend_on_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    def values() -> "np.ndarray[Any, Any]":
        bits = np.concatenate(list(random_weights(7, "w", 100_000, 0.05)))
        wide: np.ndarray[Any, Any] = bits.astype(np.uint32) << 16
        return wide.view(np.float32)

    whole = values()
    assert abs(whole.mean()) < 0.001
    assert abs(whole.std() - 0.05) < 0.001
    assert abs((np.abs(whole) < 0.05).mean() - 0.683) < 0.02
    assert abs((np.abs(whole) < 0.1).mean() - 0.954) < 0.02
    monkeypatch.setattr("harness.replay.builtin_model._PIECE", 777)
    assert np.array_equal(values(), whole)


def test_a_header_is_padded_and_tells_the_length() -> None:
    header, total = safetensors_header({"a": (3, 5), "b": (7,)})
    assert len(header) % 8 == 0
    assert total == len(header) + 2 * (15 + 7)
    assert json.loads(header[8:])["b"]["data_offsets"] == [30, 44]
