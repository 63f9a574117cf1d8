"""What ``make fuzz`` has found, each as the smallest input of its kind, and that its parsers and inputs are what they seem."""

import json
import random
import warnings
from pathlib import Path

import pytest
from checking import Parser, wrong
from fuzz import PARSERS, run
from mutation import mutated

BY_NAME = {parser.name: parser for parser in PARSERS}
PATIENCE_S = 30.0
"""Here it is not asked how fast this machine is."""

FOUND: list[tuple[str, bytes] | tuple[str, bytes, bytes]] = [
    # a message of any length, or with escape codes in it
    ("a budget", b"x+" * 3000),
    ("an arm", b"chunkwise:pool=8,\x1b[31m"),
    ("objectives", b"itl:" + b"a." * 100_000),
    ("times by length", b"0:" + b"9" * 5000),
    ("sizes", b"64\x85KiB\xe2\x80\xae"),
    ("a target's URL", b"http://127.0.0.1:" + b"800\x03" * 200),
    ("/metrics", b'vllm:num_requests_running{engine="0"} ' + b'{"a":' * 3000),
    ("replies of Redis", b"+PONG\r\n$" + b"1" * 1500 + b"\r\n"),
    ("a stream of tokens", b'data: {"choices":[{"text":"\x1b[31m"\n'),
    ("a stream of tokens", b'data: {"error": "\xe2\x80\xae"}\n'),
    ("a stream of tokens", b'data: {"choices":[{"token_ids":[5],"finish_reason":"' + b"x" * 5000 + b'"}]}\n\ndata: [DONE]\n'),
    # a password, or a token
    ("a stream of tokens", b'data: {"ERROR": "redis://u:hunter2@h:1"}\n'),
    ("--set", b"vllm=shf_token='hunter2', seed=1"),
    ("a span log", b'"start_s": 1.0, ', b'"start_s": "redis://u:hunter2@h:1", '),
    # addresses that Python's own parser does not take
    ("a target's URL", b"https://[:>1]"),
    ("--set", b"store=redis://[h:1/0\nstore.timeout_s=3"),
    # minutes over one key
    ("an experiment", b"a." * 100_000 + b"a = 1"),
    ("--set", b"chunk_tokens=" + b"a." * 60_000),
    # numbers and texts that a library takes no more
    ("arrivals", b"poisson:rate=2,seed=-1"),
    ("a calibration", b'"alpha": 0.05', b'"alpha": ' + b"9" * 400),
    ("a calibration", b'"noise": ', b'"noise": ' + b"9" * 400),
    ("sweep.json", b'"point": 1', b'"point": Infinity'),
    ("--vary", b"vllm.\xcf=1,2"),
    # an error for each of a million elements
    ("/v1/ttft", b'["floor"]', b"[" + b"0, " * 300_000 + b"0]"),
    # a structure of another kind
    ("a model's config.json", b'["full_attention"]', b'[{"a": 1}]'),
    ("a model's description", b'["full_attention"]', b"7"),
    ("a history in Parquet", b'"name"', b'"nbme"'),
    ("a span log", b'"spans": [[', b'"spans": [[1], ['),
    ("a span log", b'"start_s": 1.0, ', b""),
    ("a peer's span log", b', "between_steps": true', b""),
    ("a peer's span log", b'"rank": 0', b'"rank": []'),
    ("a peer's span log", b'"hit_tokens": 16', b'"hit_tokens": "16"'),
    ("an earlier run's pace", b'"started": "', b'"ended": "2026-01-01T00:00:00", "started": "2026-01-01T00:00:00Z", "was": "'),
    ("numbers", b"2\x1d"),
    ("a history in CSV", b""),
    ("requests.csv", b"run,arm,prompt,ttft_s\n0,chunkwise:pool=8,p,1\n\xff"),
    ("a store's URL", b"redis+unix:///run\xa8/redis.sock"),
    ("a result file of another tool", b'"Connection reset"', b'"Connection\\nreset"'),
    # another shape than its writer's, and addresses that nobody can connect to
    ("a lane's spans and void runs", b"[]\n"),
    ("a server's first record", b"[]\n"),
    ("a sentinel's answer", b'["10.0.0.1"]'),
    ("a sentinel's answer", b'["10.0.0.1", "99999999999"]'),
    ("a sentinel's answer", b'["' + b"a" * 70 + b'", "6379"]'),
    # half of a character, as JSON can write it, and what a command line holds that is not UTF-8
    ("run.json", b'"arm": "floor"', b'"arm": "\\ud800"'),
    ("spans.jsonl", b'"request": "', b'"request": "\\ud800'),
    ("a report over run.json", b'"id": "', b'"id": "\\udfff'),
    ("--set", b"store.\xa2=1\nstore.timeout_s=\xa2"),
    ("sweep.json", b'"default"', b'"\\ud800"'),
]


@pytest.mark.parametrize("place", range(len(FOUND)), ids=[f"{found[0]} {found[1][:20]!r}" for found in FOUND])
def test_what_was_found_stays_mended(place: int, tmp_path: Path) -> None:
    found = FOUND[place]
    parser, given = BY_NAME[found[0]], found[1]
    if len(found) == 3:
        assert given in parser.seeds[0], "the good input does not hold any more what is replaced here"
        given = parser.seeds[0].replace(given, found[2])
    assert wrong(parser, given, tmp_path, PATIENCE_S) == ""


@pytest.mark.parametrize("parser", PARSERS, ids=[parser.name for parser in PARSERS])
def test_a_parser_takes_what_its_inputs_are_made_from(parser: Parser, tmp_path: Path) -> None:
    """Or all of them would end at the first look."""
    good = 0
    for data in parser.seeds:
        try:
            parser.call(data, tmp_path)
            good += 1
        except parser.raises:
            continue
    assert good or parser.name in ("vLLM's log", "an error of S3")  # which only make errors


def test_a_short_run_over_every_parser_finds_nothing(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tallies = run(list(PARSERS), seed=3, seconds=60, inputs=len(PARSERS), found_in=tmp_path, batch=1, limit_s=PATIENCE_S)
    assert [(one.parser.name, one.inputs, one.findings) for one in tallies if one.findings or not one.inputs] == []


def test_what_is_wrong_is_seen(tmp_path: Path) -> None:
    def call(data: bytes, _: Path) -> None:
        json.loads(data)

    strict = Parser("strict", call, (b"{}",))
    assert wrong(strict, b"{}", tmp_path) == ""
    assert wrong(strict, b"{", tmp_path).startswith("JSONDecodeError at ")
    kind = Parser("kind", call, (b"{}",), (ValueError,))
    assert wrong(kind, b"{", tmp_path) == ""
    assert "_never_ends" in wrong(Parser("slow", lambda *_: _never_ends(), (b"",)), b"", tmp_path, 0.05)


def _never_ends() -> None:
    while True:
        pass


def test_the_same_seed_gives_the_same_inputs() -> None:
    seeds = (b'{"a": [1, {"b": "c"}], "d": 2.5}', b"a,b\n1,2\n")
    first = [mutated(random.Random(f"7/{place}"), seeds, packed=True) for place in range(50)]
    assert first == [mutated(random.Random(f"7/{place}"), seeds, packed=True) for place in range(50)]
    assert len(set(first)) > 40
