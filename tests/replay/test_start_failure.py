"""The sentence for a vLLM that does not start names the cause, wherever vLLM left it."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError, model_validator

from harness.replay.start_failure import end_cause, start_failure

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


def test_a_cause_that_vllm_tells_without_a_way_out_gets_one() -> None:
    said = "Not enough allowed NUMA nodes to bind threads of 2 local CPUWorkers. Please try to bind threads manually."
    for reason in (start_failure(AssertionError(said), ""), start_failure(VAGUE, f"AssertionError: {said}\n")):
        assert reason.startswith(said[:-1] + "; set VLLM_CPU_OMP_THREADS_BIND to the cores of each rank")


class Config(BaseModel):
    """vLLM's are pydantic's, and refuse what does not fit together by a validator of the whole."""

    cores: int = 1

    @model_validator(mode="after")
    def _known(self) -> "Config":
        if self.cores > 2:
            raise ValueError("Unsupported connector type: NoSuchConnector\nand more")
        return self


@pytest.mark.parametrize(
    ("value", "said"),
    [(3, "Unsupported connector type: NoSuchConnector"), ("x", "cores: Input should be a valid integer, unable to parse")],
)
def test_a_setting_that_will_not_do_is_told_and_not_only_counted(value: Any, said: str) -> None:
    with pytest.raises(ValidationError) as error:
        Config(cores=value)
    found = start_failure(error.value, "")
    assert found.startswith(said)
    assert "\n" not in found


DIED = "(EngineCore pid=7) ERROR 11-24 21:40:04 [executor.py:315] Worker proc VllmWorker-0 died unexpectedly (exit code: {})\n"


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        (
            DIED.format(-9),
            "VllmWorker-0 was killed by signal 9, as Linux does where memory runs out; give vLLM and its connector",
        ),
        (DIED.format(-11), "VllmWorker-0 was killed by signal 11"),
        (DIED.format(1), "VllmWorker-0 ended with exit code 1"),
        ("RuntimeError: no such device\n", "no such device"),
        ("all is well\n", ""),
    ],
)
def test_why_vllm_is_gone_comes_from_its_log(log: str, cause: str) -> None:
    assert end_cause(log + "RuntimeError: see root cause above\n").startswith(cause)
    assert bool(end_cause(log)) == bool(cause)
