"""The sentence for a vLLM that does not start names the cause, wherever vLLM left it."""

import pytest

from harness.replay.start_failure import start_failure

VAGUE = RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {}")
WORKER = (
    "Worker failed with error 'chunk_tokens=100 is not a multiple of vLLM's block of 128 tokens; use 128', "
    "please check the stack trace above"
)


def test_an_error_that_says_it_is_taken_as_it_is() -> None:
    assert start_failure(ValueError("no such dtype\nmore"), "KeyError: other") == "no such dtype"
    assert start_failure(ValueError(), "KeyError: other") == "ValueError"


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        ("INFO fine\nValueError: No available memory for the cache blocks.\n", "No available memory for the cache blocks."),
        (
            f"(EngineCore pid=7) ERROR 11-24 09:32:10 [core.py:1510] RuntimeError: {WORKER} for the root cause\n",
            "chunk_tokens=100 is not a multiple of vLLM's block of 128 tokens; use 128",
        ),
        (f"torch.OutOfMemoryError: no room\nRuntimeError: {VAGUE}\n", "no room"),
        ("nothing here\n", str(VAGUE)),
    ],
)
def test_the_cause_comes_from_the_log_where_the_error_only_points_at_it(log: str, cause: str) -> None:
    assert start_failure(VAGUE, log) == cause
