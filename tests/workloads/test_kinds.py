"""What holds for every format: a fault that was found in one is looked for in all."""

import bz2
import gzip
import json
import lzma
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trace_formats import FORMATS, IDS, LIMITS, Format

from harness.core.errors import SetupError, UsageError
from harness.testing.workloads import build
from harness.workloads import WORKLOADS, _lines
from harness.workloads.base import Limits

TRACES = [form for form in FORMATS if form.at]
TRACE_IDS = [form.workload for form in TRACES]
EPOCH = 1_777_600_000.0
DATA = Path(__file__).parents[1] / "data" / "traces"


def timed(form: Format, *seconds: float) -> str:
    """A file with one request at each time."""
    assert form.at is not None
    return form.text(*(form.at(at) for at in seconds))


@pytest.mark.parametrize("origin", [0.0, 225 * 86400.0, EPOCH], ids=["zero", "late", "epoch"])
@pytest.mark.parametrize("form", TRACES, ids=TRACE_IDS)
def test_windows_count_from_the_first_request(form: Format, origin: float, tmp_path: Path) -> None:
    file = tmp_path / "trace"
    file.write_text(timed(form, *(origin + after for after in (0, 1, 2.25, 3, 9))))
    whole = form.build(file)
    assert [prompt.arrival_s for prompt in whole.prompts] == pytest.approx([0, 1, 2.25, 3, 9], abs=1e-6)
    windowed = form.build(file, start_s=1, end_s=3)
    assert [prompt.arrival_s for prompt in windowed.prompts] == pytest.approx([0, 1.25], abs=1e-6)
    for window, lies in (
        ({"start_s": 4, "end_s": 8}, "the nearest requests lie at 3 s and 9 s"),
        ({"start_s": 20}, "the last request lies at 9 s"),
    ):
        with pytest.raises(
            UsageError, match=rf"has no request at or after start_s=.*: {lies}, counted from the first request \("
        ):
            form.build(file, **window)


@pytest.mark.parametrize("form", TRACES, ids=TRACE_IDS)
def test_the_outline_says_where_the_trace_lies(form: Format, tmp_path: Path) -> None:
    file = tmp_path / "trace"
    file.write_text(timed(form, EPOCH, EPOCH + 5))
    cls = WORKLOADS.get(form.workload)
    options = cls.Options.model_validate({"path": str(file), **form.options, "start_s": 1.0})
    outline = cls(options).outline(LIMITS)
    (field, value), *_ = form.at(EPOCH).items()  # type: ignore[misc]
    written = str(value).removesuffix(".0").removesuffix("+00:00")
    assert outline.begins.startswith(f"{field}={written}")
    assert outline.start_s + outline.arrival_s.tolist()[0] == pytest.approx(5)


COMPRESSED: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


def zstd(data: bytes) -> bytes:
    compressed: bytes = pytest.importorskip("backports.zstd").compress(data)
    return compressed


@pytest.mark.parametrize("compress", [*COMPRESSED.values(), zstd], ids=[*COMPRESSED, "zstd"])
@pytest.mark.parametrize("form", FORMATS, ids=IDS)
def test_compressed_files_are_read_whatever_their_name(form: Format, compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    file, packed = tmp_path / "trace", tmp_path / "packed.txt"
    file.write_text(form.text())
    packed.write_bytes(compress(form.text().encode()))
    assert form.build(packed).prompts == form.build(file).prompts
    packed.write_bytes(compress(form.text().encode())[:-12])
    with pytest.raises(UsageError, match=r"packed\.txt: the compressed data is damaged or cut off .*; fetch the file again"):
        form.build(packed)


def test_zstd_without_its_extra_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = tmp_path / "t"
    packed.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(20))
    monkeypatch.setitem(__import__("sys").modules, "backports", None)
    monkeypatch.setitem(__import__("sys").modules, "compression", None)
    with pytest.raises(SetupError, match=r"is compressed with zstd; install what reads it: pip install 'ttft\[zstd\]'"):
        FORMATS[0].build(packed)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 132000000\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (POINTER, "is a Git LFS pointer, not the file it stands for; fetch it with `git lfs pull`"),
        ("\n<!DOCTYPE html>\n<html>", "is a web page; download the file itself"),
        ("PK\x03\x04\x14", "is a zip archive; unpack it"),
    ],
)
@pytest.mark.parametrize("form", FORMATS, ids=IDS)
def test_a_file_of_another_kind_is_named(form: Format, text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "trace"
    file.write_text(text)
    with pytest.raises(UsageError, match=f"trace {message}"):
        form.build(file)


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
def test_a_pipe_is_refused_and_not_waited_for(form: Format, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done: list[Exception] = []

    def read() -> None:
        try:
            form.build(tmp_path / "pipe")
        except UsageError as error:
            done.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(30)
    assert done and "not a regular file" in str(done[0])


DEEP = "[" * 100_000
HOSTILE_JSON = {
    "deep": '{"a": ' + DEEP,
    "deep and closed": '{"a": ' + DEEP + "]" * 100_000 + "}",
    "deep objects": '{"a":' * 100_000,
    "long number": '{"a": ' + "9" * 100_000 + "}",
    "huge exponent": '{"a": 1e999999999}',
    "half a pair": '{"a": "\\ud800"}',
    "null byte": '{"a": "\x00"}',
}


@pytest.mark.parametrize("text", HOSTILE_JSON.values(), ids=HOSTILE_JSON.keys())
@pytest.mark.parametrize("form", [form for form in FORMATS if form.json], ids=[form.workload for form in FORMATS if form.json])
def test_hostile_json_ends_in_one_short_sentence(form: Format, text: str, tmp_path: Path) -> None:
    """On a line of its own, and inside the good line in place of each of its values."""
    file = tmp_path / "trace"
    inner = text.removeprefix('{"a": ').removesuffix("}")
    for content in (text, *(form.row({**form.values, field: "@"}).replace('"@"', inner) for field in form.values)):
        file.write_text(content + "\n")
        try:
            form.build(file)
        except UsageError as error:
            assert len(str(error)) < 1000
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    "value", ["9" * 5000, "1e400", "-1e400", "nan", "x" * 100_000, "1" + "0" * 30, "9999-12-31 23:59:59-14:00"]
)
@pytest.mark.parametrize("form", [form for form in FORMATS if not form.json], ids=["azure", "burstgpt"])
def test_hostile_csv_ends_in_one_short_sentence(form: Format, value: str, tmp_path: Path) -> None:
    file = tmp_path / "trace"
    for field in form.values:
        file.write_text(form.text({}, {field: value}))
        try:
            form.build(file)
        except UsageError as error:
            assert len(str(error)) < 1000


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
def test_a_line_without_end_is_not_read_whole(form: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lines, "LONGEST_LINE", 2000)
    if form.workload in ("sharegpt", "weka", "otel"):
        pytest.skip("reads item by item; see test_array")
    file = tmp_path / "trace"
    file.write_text(form.text() + "x" * 3000)
    with pytest.raises(UsageError, match=r"trace:\d: the line is longer than .* MiB"):
        form.build(file)


@pytest.mark.parametrize("form", FORMATS, ids=IDS)
def test_a_byte_order_mark_in_front_is_no_fault(form: Format, tmp_path: Path) -> None:
    file, marked = tmp_path / "trace", tmp_path / "marked"
    file.write_text(form.text())
    marked.write_text("\ufeff" + form.text(), encoding="utf-8")
    assert form.build(marked).prompts == form.build(file).prompts


def test_times_in_another_unit_are_doubted(tmp_path: Path) -> None:
    """Seconds that are read as milliseconds, and the other way round."""
    seconds = [0.3 * number for number in range(40)]
    for form in TRACES:
        if form.workload in ("azure", "weka", "otel"):  # dates and nanoseconds since 1970 can't be mistaken; conversations pause
            continue
        file = tmp_path / form.workload
        file.write_text(timed(form, *seconds))
        assert not any("Warning" in note for note in form.build(file).notes)
        file.write_text(timed(form, *(at / 1000 for at in seconds)))
        (fast,) = (note for note in form.build(file).notes if "Warning" in note)
        assert "3,333 requests per second" in fast
        file.write_text(timed(form, *(at * 1000 for at in seconds)))
        (slow,) = (note for note in form.build(file).notes if "Warning" in note)
        assert "one request in 300 s" in slow


WITH_IMAGES: dict[str, dict[str, Any]] = {
    "sharegpt": {"messages": [{"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "What?"}]}]},
    "openai_batch": {
        **FORMATS[3].values,
        "url": "/v1/chat/completions",
        "body": {"messages": [{"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "What?"}]}]},
    },
    "mooncake": {"messages": [{"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "What?"}]}]},
}


@pytest.mark.parametrize("name", WITH_IMAGES)
def test_images_are_left_out_and_counted(name: str, tmp_path: Path) -> None:
    file = tmp_path / "trace"
    file.write_text(json.dumps(WITH_IMAGES[name]) + "\n")
    data = build(WORKLOADS.get(name), {"path": str(file), "tokenizer": "bytes"}, LIMITS)
    assert bytes(data.prompts[0].tokens).decode() == "user: What?\nassistant:"
    assert any("images" in note and " 1 " in note for note in data.notes)


def test_images_in_the_text_of_llava_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    file.write_text(json.dumps({"image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\nWhat?"}]}))
    data = build(WORKLOADS.get("sharegpt"), {"path": str(file), "tokenizer": "bytes"}, LIMITS)
    assert any("Skipped 1 images in messages" in note for note in data.notes)


WIDE = Limits(vocabulary=2**31, max_tokens=32768, chunk_tokens=16)


@pytest.mark.parametrize(
    ("spec", "prompts"),
    [
        ({"workload": "burstgpt", "path": "burstgpt_late.csv", "end_s": 3600}, ["line2", "line3", "line4", "line6"]),
        ({"workload": "burstgpt", "path": "burstgpt_late.csv", "start_s": 60}, ["line4", "line6"]),
        ({"workload": "mooncake", "path": "mooncake_epoch.jsonl", "end_s": 2}, [f"line{n}" for n in range(1, 9)]),
        ({"workload": "mooncake", "path": "mooncake_session.jsonl"}, ["line1", "line2", "line3"]),
        ({"workload": "mooncake", "path": "mooncake_text.jsonl", "tokenizer": "bytes"}, ["line1", "line2"]),
        ({"workload": "sharegpt", "path": "sharegpt_role.jsonl", "tokenizer": "bytes"}, ["c1t1"]),
        ({"workload": "sharegpt", "path": "sharegpt_messages.jsonl", "tokenizer": "bytes"}, ["c1t1"]),
        ({"workload": "sharegpt", "path": "sharegpt_null.json", "tokenizer": "bytes"}, ["c1t1", "c3t1"]),
    ],
    ids=lambda value: value["path"] if isinstance(value, dict) else "",
)
def test_files_that_users_have_are_read(spec: dict[str, Any], prompts: list[str]) -> None:
    options = {**spec, "path": str(DATA / spec["path"])}
    data = build(WORKLOADS.get(options.pop("workload")), options, WIDE)
    assert [prompt.id for prompt in data.prompts] == prompts


def test_a_file_is_closed_when_reading_stops_early(tmp_path: Path) -> None:
    """A warning about an unclosed file is an error in these tests."""
    for form in FORMATS:
        file = tmp_path / form.workload
        file.write_text(form.text({}, {"id": "b", "custom_id": "b"} if form.json else {}))
        assert len(form.build(file, limit=1).prompts) == 1
