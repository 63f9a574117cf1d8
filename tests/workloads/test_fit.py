import pytest
from pydantic import ValidationError

from harness.core.errors import UsageError
from harness.workloads import WORKLOADS
from harness.workloads._fit import Fitter, fit_prompts
from harness.workloads.base import Limits, Prompt

LIMITS = Limits(vocabulary=100, max_tokens=10, chunk_tokens=2)


def prompt(length: int, prefix: int = 0, output: int = 2) -> Prompt:
    return Prompt(f"p{length}", tuple(range(length)), prefix, output)


def test_what_fits_is_left_alone() -> None:
    data = fit_prompts([prompt(8), prompt(1)], LIMITS, "skip", "x", "y")
    assert data.prompts == (prompt(8), prompt(1))
    assert data.notes == ()


def test_skipping_is_counted() -> None:
    data = fit_prompts([prompt(8), prompt(9), prompt(7), prompt(30)], LIMITS, "skip", "x", "y")
    assert [p.id for p in data.prompts] == ["p8", "p7"]
    (note,) = data.notes
    assert "Skipped 2 of 4 prompts" in note
    assert "10 tokens" in note


def test_truncating_keeps_as_much_of_the_head_as_fits_and_is_counted() -> None:
    data = fit_prompts([prompt(8), prompt(30, prefix=20, output=3)], LIMITS, "truncate", "x", "y")
    assert data.prompts[1] == Prompt("p30", tuple(range(7)), 7, 3)
    assert "Truncated 1 of 2 prompts" in data.notes[0]


def test_truncating_leaves_a_shorter_hit_alone() -> None:
    data = fit_prompts([prompt(30, prefix=5)], LIMITS, "truncate", "x", "y")
    assert (len(data.prompts[0].tokens), data.prompts[0].prefix_tokens) == (8, 5)


def test_nothing_left_names_lengths_limit_and_fixes() -> None:
    with pytest.raises(
        UsageError, match=r"no prompt of x fits.*2 prompts have 9 to 30 tokens.*allows 10.*y, or over_long=truncate"
    ):
        fit_prompts([prompt(9), prompt(30)], LIMITS, "skip", "x", "y")


def test_an_output_that_leaves_no_room_cannot_be_truncated_to() -> None:
    with pytest.raises(UsageError, match="no prompt of x fits") as caught:
        fit_prompts([prompt(9, output=10)], LIMITS, "truncate", "x", "y")
    assert "over_long=truncate" not in str(caught.value)


def test_the_lengths_are_those_before_cutting() -> None:
    fitter = Fitter(LIMITS, "truncate")
    assert [fitter.kept(n, 2) for n in (5, 50, 3)] == [5, 8, 3]
    assert (fitter.seen, fitter.cut, fitter.shortest, fitter.longest) == (3, 1, 3, 50)


SIZES = [
    (name, option)
    for name in ("shared_prefix", "long_doc", "multi_turn")
    for option, kind in WORKLOADS.get(name).Options.model_fields.items()
    if kind.annotation in (int, int | None) and option not in ("seed", "output")
]


@pytest.mark.parametrize(("name", "option"), SIZES)
@pytest.mark.parametrize("size", [2**28 + 1, 2**63, 10**400])
def test_no_size_of_a_made_up_workload_fills_the_memory(name: str, option: str, size: int) -> None:
    limits = Limits(max_tokens=2048, vocabulary=256, chunk_tokens=16)
    with pytest.raises(
        (UsageError, ValidationError), match=r"more than 268,435,456 tokens together; use smaller|less than or equal"
    ):
        cls = WORKLOADS.get(name)
        cls(cls.Options.model_validate({option: size})).build(limits)
