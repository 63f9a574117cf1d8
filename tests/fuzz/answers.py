"""Parsers of what other programs send: servers, workers, clients of a server, and objects in a store."""

import json
import os
import random
import struct
from pathlib import Path

from checking import Parser
from standins import CHUNK, DictStore, keys_of, make_request, make_side, put

from harness.connector.settings import parse_arm, parse_params
from harness.core.chunks import ChunkKey, KVGeometry, Layout, check_header, checksum, encode_header
from harness.core.errors import RunError, TtftError
from harness.core.text import printable
from harness.experiment.lanes.protocol import decode, encode
from harness.replay.event_stream import EventStream
from harness.replay.prometheus import samples
from harness.replay.server.about import About, parse
from harness.replay.start_failure import end_cause, start_failure
from harness.replay.target import _first_model
from harness.stores._seal import Sealer
from harness.stores.base import Read, open_store
from harness.stores.redis.address import Address
from harness.stores.redis.protocol import Exchange, ProtocolViolation, Request, command
from harness.stores.redis.sentinel import address_in
from harness.stores.s3.address import Place
from harness.stores.s3.errors import explain

KEY = ChunkKey("0123456789abcdef" * 2)
SEAL = "TTFT_FUZZ_SEAL"
BODY = bytes(range(256)) * 64
LAYOUT = Layout(KVGeometry(layers=3, block_tokens=16, block_bytes=512, chunk_blocks=2, dtype="float32"))


def _header(data: bytes, _: Path) -> None:
    check_header(LAYOUT, KEY, data)
    body = data[: 64 + 8 * 3]
    check_header(LAYOUT, KEY, body + struct.pack("<Q", checksum(body)) + data[len(body) + 8 :])


def _replies(data: bytes, _: Path) -> None:
    """Six requests of a pipeline; what arrives comes in pieces of any size."""
    values = [memoryview(bytearray(size)) for size in (16, 8, 700)]
    requests = [
        Request(command("PING")), Request(command("GETRANGE", "k", 0, 15), (values[0],), 16), Request(command("EXISTS", "k")),
        Request(command("GET", "a"), (values[1], values[2]), 708), Request(command("AUTH", "x")), Request(command("SELECT", 1)),
    ]  # fmt: skip
    sizes = random.Random(len(data))
    exchange = Exchange(requests, direct_bytes=sizes.choice((1, 512)))
    while not exchange.done and data:
        exchange.outgoing()
        parts = exchange.targets() if sizes.random() < 0.5 else [exchange.target()]
        piece, count = data[: sizes.choice((1, 7, 100, 1000))], 0
        for part in parts:
            size = min(part.nbytes, len(piece) - count)
            part[:size] = piece[count : count + size]
            count += size
        data = data[count:]
        exchange.arrived(count)


def _stream(data: bytes, _: Path) -> None:
    _told(EventStream(3, 0.0, 5.0, lambda at: None), data)


def _told(stream: EventStream, data: bytes) -> None:
    for place, line in enumerate(data.splitlines(keepends=True)):
        if not stream.take(line, place / 10):
            break
    outcome = stream.outcome()
    if len(outcome.error) > 600 or printable(outcome.error) != outcome.error:
        raise AssertionError(f"an error of {len(outcome.error)} characters: {outcome.error[:300]!r}")


def _any_stream(data: bytes, _: Path) -> None:
    """Of a server other than vLLM, which sends text without token ids."""
    _told(EventStream(3, 0.0, 5.0, any_text=True), data)


def _sealed(data: bytes, folder: Path) -> None:
    """Whatever stands in an object's place, what is read of it is what was written, or an error."""
    os.environ[SEAL] = "a secret of some length"
    with open_store(f"file://{folder}/kv") as plain:
        plain.write(KEY, [data])
    with open_store(f"sealed+file://{folder}/kv?seal=${SEAL}") as store:
        for offset, length in ((0, 100), (5000, 5000), (len(BODY) - 7, 7)):
            out = bytearray(length)
            store.read([Read(KEY, offset, (memoryview(out),))])
            assert bytes(out) == BODY[offset : offset + length]
        assert store.size(KEY) == len(BODY)


def _primary(data: bytes, _: Path) -> None:
    address_in(json.loads(data), "mymaster", Address("127.0.0.1", 26379))


def _models(data: bytes, _: Path) -> None:
    found = json.loads(data)
    if isinstance(found, dict):
        _first_model("http://h:1", found)


def _about(data: bytes, _: Path) -> None:
    found = json.loads(data)
    if isinstance(found, dict):
        parse(found)


def _request(data: bytes, _: Path) -> None:
    """A request of a client as vLLM hands it on; in vLLM its shape has been checked, here nothing has."""
    wanted = json.loads(data)
    wanted = wanted if isinstance(wanted, dict) else {"params": wanted}
    store = DictStore()
    put(store, keys_of(range(3 * CHUNK)))
    side = make_side(store)
    request = make_request("r", [1], wanted.get("params"), cache_salt=wanted.get("salt"))
    request.prompt_token_ids = wanted.get("tokens")
    granted = side.matched_tokens(request, 0)
    assert isinstance(granted, int) and granted >= 0
    side.allocated(request, granted)
    side.finished(request)


def _params(data: bytes, _: Path) -> None:
    parse_params(json.loads(data), {name: parse_arm(name) for name in ("floor", "chunkwise:pool=0")})


def _start(data: bytes, _: Path) -> None:
    text = data.decode(errors="replace")
    for error in (RuntimeError("see root cause above"), ValueError(text)):
        raise RunError(f"vLLM did not start: {start_failure(error, text)}; {end_cause(text)}; look into its log")


def _s3(data: bytes, _: Path) -> None:
    raise explain("read", Place("b", "p", "http://h:1"), OSError(data.decode(errors="replace")), 3.0)


EVENTS = (
    b'data: {"choices":[{"token_ids":[5],"text":"a"}]}\n\n'
    b'data: {"choices":[{"token_ids":[6,7],"text":"b","finish_reason":"length"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":4}},"metrics":{"queue_time_ms":1.5,'
    b'"time_to_first_token_ms":9,"generation_time_ms":3}}\n\ndata: [DONE]\n\n',
    b': keep-alive\n\ndata: {"error": {"message": "no", "code": 500}}\n\n',
)
TEXTS = (
    b'data: {"choices":[{"text":"a"}]}\n\ndata: {"choices":[{"text":"bc","finish_reason":"length"}],'
    b'"usage":{"completion_tokens":3}}\n\ndata: [DONE]\n\n',
    b'data: {"choices":[{"delta":{"role":"assistant","reasoning_content":"hm"}}],"usage":{"completion_tokens":1}}\n\n'
    b'data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}\n\n'
    b'data: {"choices":[],"usage":{"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":4}}}\n\ndata: [DONE]\n\n',
)
METRICS = (
    b"# HELP vllm:num_requests_running Running.\n# TYPE vllm:num_requests_running gauge\n"
    b'vllm:num_requests_running{engine="0",model_name="m"} 2.0\n'
    b'vllm:num_preemptions_total{engine="0"} 0.0\nvllm:time_to_first_token_seconds_sum{engine="0"} 1.5e-3\n'
    b'vllm:time_to_first_token_seconds_count{engine="0"} 3.0\nvllm:ttft_failed_load_blocks_total 4\n',
)
REPLIES = (
    b"+PONG\r\n$16\r\n0123456789abcdef\r\n:1\r\n$708\r\n" + b"v" * 708 + b"\r\n+OK\r\n+OK\r\n",
    b"-NOAUTH no\r\n$0\r\n\r\n:0\r\n$-1\r\n",
)
ABOUT = About(id="a", store="mem://kv", arms=["floor"], chunk_tokens=16, max_model_len=99, folder="/x").model_dump_json().encode()
WANTED = (
    b'{"tokens": [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16], '
    b'"params": {"arm": "chunkwise:pool=0", "max_hit_tokens": 8, "save": true}}',
    b'{"tokens": [0,1,2,3,4,5,6,7,8], "params": {"label": "r/0", "namespace": "n"}, "salt": "s"}',
)
LOGS = (
    b"INFO x\n(EngineCore pid=7) ERROR 11-30 10:00:00 [core.py:9] RuntimeError: no memory left\n"
    b"RuntimeError: see root cause above\n",
    b"ValueError: Worker failed with error 'Not enough allowed NUMA nodes', please check the stack trace\n",
    b"Worker proc VllmWorker-1 died unexpectedly (exit code: -9)\n",
)

JSON_ERRORS = (TtftError, ValueError, RecursionError)
"""What the callers of json.loads expect besides ours."""

PARSERS = (
    Parser("a chunk's header", _header, (encode_header(LAYOUT, KEY, [1, 2, 3]),)),
    Parser("replies of Redis", _replies, REPLIES, (ProtocolViolation,)),
    Parser("a stream of tokens", _stream, EVENTS, (ValueError,)),
    Parser("a stream of text", _any_stream, TEXTS, (ValueError,)),
    Parser("a sealed object", _sealed, (Sealer("a secret of some length").seal(KEY, [BODY]) + BODY,)),
    Parser("a sentinel's answer", _primary, (b'["10.0.0.1", "6379"]', b"null"), JSON_ERRORS),
    Parser("/metrics", lambda data, _: samples(data.decode(errors="replace"), 0.0), METRICS, (ValueError,)),
    Parser("/v1/models", _models, (b'{"object":"list","data":[{"id":"m","max_model_len":4096}]}',), JSON_ERRORS),
    Parser("/v1/ttft", _about, (ABOUT,), JSON_ERRORS),
    Parser("a request to the connector", _request, WANTED, (ValueError, RecursionError)),
    Parser("kv_transfer_params", _params, (b'{"arm": "floor", "max_hit_tokens": 8, "save": true, "label": "a"}',), JSON_ERRORS),
    Parser("a worker's message", lambda data, _: decode(data), (encode("turn", run=1, round=0, arm="floor", loaded=[]).strip(),)),
    Parser("vLLM's log", _start, LOGS),
    Parser(
        "an error of S3",
        _s3,
        (b"non-2xx status code: 403: <Error><Code>AccessDenied</Code></Error>", b"connection refused", b"dns error"),
    ),
)
