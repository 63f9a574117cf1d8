"""No message shows a password or a token, wherever the text with it is wrong."""

import itertools
from pathlib import Path

import pytest
from checking import SECRET
from fuzz import PARSERS

from harness.core.errors import RunError, TtftError, UsageError
from harness.core.text import without_secrets
from harness.experiment.dotted import experiment_of
from harness.experiment.settings import given_settings
from harness.replay.start_failure import start_failure

BY_NAME = {parser.name: parser for parser in PARSERS}
LOGINS = [
    f"redis://user:{SECRET}@host:6379/0",
    f"shaped+redis://:{SECRET}@h",
    f"http://u:{SECRET}@h:8080",
    f"nope://u:{SECRET}@h",
]
LOGINS += [f"mooncake://h:1?metadata=http://u:{SECRET}@h/m", f"redis://h?password={SECRET}", f"s3://key:{SECRET}@bucket/prefix"]
ODD = [f"redis://u:a/{SECRET}@h", f"redis://u:{SECRET}@h@h", f"redis://u:a?{SECRET}@h"]
"""In a URL that stands alone; among the options of an arm nobody could tell where such a password ends."""
BEHIND = ["", "?nope=1", "?latency_ms=x", "?a=1&a=2", "#part", ":port", "\x00"]
BEFORE = ["", "nope+", "shaped+", "["]
WRITTEN = {
    "a store's URL": "{}",
    "a target's URL": "{}",
    "--set": "store={}\nstore.timeout_s=3",
    "an experiment": 'store = "{}"\nnope = 1',
    "--vary": "store={}|mem://kv",
    "an arm": "chunkwise:pool={}",
    "an arm or a peer": "connector:X,url={}@x",
    "a workload": "jsonl:path={},nope=1",
    "arrivals": "poisson:rate={}",
    "the connector's settings": "chunkwise:pool={}",
}


@pytest.mark.parametrize("name", WRITTEN)
def test_no_error_shows_a_password(name: str, tmp_path: Path) -> None:
    parser = BY_NAME[name]
    logins = [*LOGINS, *ODD] if WRITTEN[name] == "{}" else LOGINS
    for before, login, behind in itertools.product(BEFORE, logins, BEHIND):
        try:
            parser.call(WRITTEN[name].format(f"{before}{login}{behind}").encode(), tmp_path)
        except parser.raises as error:
            assert SECRET not in str(error), (before, login, behind)


@pytest.mark.parametrize("item", [f"vllm.hf_token={SECRET}", f"vllm={{hf_token = '{SECRET}'}}", f"vllm={{api_key='{SECRET}'}}"])
def test_a_token_among_vllms_arguments_is_refused_before_it_is_kept(item: str) -> None:
    with pytest.raises(UsageError, match=r"would stand in run\.json, .*set it in the environment") as told:
        experiment_of({}, given_settings([item]))
    assert SECRET not in str(told.value)
    experiment_of({}, given_settings(["vllm.hf_token=true", "vllm.tokenizer=some/name", "vllm.max_num_batched_tokens=64"]))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"--set vllm.hf_token={SECRET} --pairs 6", "--set vllm.hf_token=*** --pairs 6"),
        (f"vllm={{'hf_token': '{SECRET}', 'seed': 1}}", "vllm={'hf_token': '***', 'seed': 1}"),
        ("api_key=$NAME, tokens: 5, keys=3", "api_key=$NAME, tokens: 5, keys=3"),
        (f"401 for Authorization: Bearer {SECRET}, try again", "401 for Authorization: Bearer ***, try again"),
        (f"{{'authorization': 'Basic {SECRET}'}}", "{'authorization': 'Basic ***'}"),
        (f"GET /v1?access_token={SECRET}&n=5", "GET /v1?access_token=***&n=5"),
        ("sent as a bearer token, never with chunk_tokens=256", "sent as a bearer token, never with chunk_tokens=256"),
        ("x" * 200_000 + "://" + ":" * 200_000, "x" * 200_000 + "://" + ":" * 200_000),
    ],
)
def test_what_is_set_by_the_name_of_a_secret_is_not_shown(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_what_others_say_is_told_without_passwords() -> None:
    error: TtftError = RunError(start_failure(ValueError(f"cannot connect to redis://u:{SECRET}@h:1"), ""))
    assert str(error) == "cannot connect to redis://u:***@h:1"
