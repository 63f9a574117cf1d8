"""No request ends the connector, whatever it holds: token ids, parameters, salts and ids of a client's choice."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standins import CHUNK, DictStore, make_output, make_request, make_side

from harness.connector.scheduler_side import LONGEST_MESSAGE, short

INTEGERS = st.one_of(st.integers(-(2**70), 2**70), st.sampled_from([2**31, 2**32, 2**33, 2**63, 2**64, -1, 10**4000]))
ODD = st.one_of(st.none(), st.booleans(), INTEGERS, st.floats(), st.text(max_size=5), st.binary(max_size=3))
NESTED = st.recursive(ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3))
NAMES = st.sampled_from(["arm", "max_hit_tokens", "save", "namespace", "label", "do_remote_prefill"])
PARAMS = st.one_of(NESTED, st.dictionaries(NAMES, st.one_of(NESTED, st.sampled_from(["recompute", "floor"]))))
TOKENS = st.one_of(st.none(), st.lists(st.one_of(st.integers(0, 2000), ODD), max_size=3 * CHUNK))


def live_through(prompt: Any, params: Any, request_id: Any, salt: Any) -> None:
    """Everything that vLLM's scheduler asks of one request, from its lookup to its end."""
    side = make_side(DictStore())
    request = make_request(request_id, [1], params, cache_salt=salt)
    request.prompt_token_ids = prompt
    granted = side.matched_tokens(request, 0)
    assert isinstance(granted, int)
    assert granted >= 0
    side.allocated(request, granted)
    blocks = (list(range(1, 20)),)
    new = SimpleNamespace(req_id=request_id, block_ids=blocks, num_computed_tokens=granted)
    side.plan(make_output([new], scheduled={request_id: 2 * CHUNK}))
    side.load_errors({3})
    side.plan(make_output(cached=[(request_id, None, CHUNK)], scheduled={request_id: CHUNK}))
    side.finished(request)
    side.plan(make_output())
    assert not side._tracked


@settings(max_examples=400, deadline=None)
@given(TOKENS, PARAMS, st.text(max_size=8), st.one_of(st.none(), st.text(max_size=8), NESTED))
def test_whatever_a_request_holds_the_scheduler_goes_on(prompt: Any, params: Any, request_id: str, salt: Any) -> None:
    live_through(prompt, params, request_id, salt)


@pytest.mark.parametrize("token", [2**32, 2**33, -1, 10**40, 1.5, "7", None])
def test_a_token_id_that_no_key_can_hold_is_a_request_without_the_store(token: Any, caplog: pytest.LogCaptureFixture) -> None:
    live_through([token] * (2 * CHUNK), None, "r", None)
    assert "request r is computed without the store" in caplog.text


def test_a_store_whose_client_raises_what_it_likes_is_a_miss(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(DictStore):
        def exists(self, keys: Sequence[str]) -> int:
            raise RuntimeError("a plugin's own error")

    side = make_side(Odd())
    assert side.matched_tokens(make_request("r", range(3 * CHUNK)), 0) == 0
    assert "a plugin's own error" in caplog.text


def test_what_a_client_sent_does_not_fill_the_log() -> None:
    assert len(short(ValueError("x\n" * 100_000))) < LONGEST_MESSAGE + 20
