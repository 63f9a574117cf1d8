"""What happens to prompts that are longer than the model allows: one rule for all workloads, counted and reported."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from harness.core.chunks import whole_chunks
from harness.core.errors import UsageError
from harness.workloads.base import DataSet, Limits, Prompt, WorkloadOptions

MOST_TOKENS = 2**28
"""Of all prompts of a made-up workload together; a token takes some 40 bytes of memory."""

OverLong = Literal["skip", "truncate"]


class FittedOptions(WorkloadOptions):
    """Options that every workload has."""

    over_long: OverLong = Field(
        "skip",
        description="what to do with a prompt that with its output is longer than the model allows:"
        " skip drops it, truncate keeps its head",
    )


class Fitter:
    """Decides for one prompt after the other, and counts.

    ``seen``: prompts asked about; ``cut``: those that were too long; ``shortest``, ``longest``: in tokens, uncut.
    """

    def __init__(self, limits: Limits, over_long: OverLong) -> None:
        self._limits = limits
        self._over_long = over_long
        self.seen = 0
        self.cut = 0
        self.shortest = 0
        self.longest = 0

    def kept(self, prompt_tokens: int, output_tokens: int) -> int:
        """Leading tokens of the prompt that are sent; 0 means that the prompt is skipped."""
        self.seen += 1
        self.shortest = min(self.shortest or prompt_tokens, prompt_tokens)
        self.longest = max(self.longest, prompt_tokens)
        room = max(self._limits.max_tokens - output_tokens, 0)
        if prompt_tokens <= room:
            return prompt_tokens
        self.cut += 1
        return room if self._over_long == "truncate" else 0

    def notes(self) -> tuple[str, ...]:
        """What was done, as sentences; none where every prompt fitted."""
        if not self.cut:
            return ()
        done = "Truncated" if self._over_long == "truncate" else "Skipped"
        return (
            f"{done} {self.cut:,} of {self.seen:,} prompts: with the output, longer than the"
            f" {self._limits.max_tokens:,} tokens that the model allows (over_long={self._over_long}).",
        )

    def nothing_fits(self, what: str, fix: str) -> UsageError:
        """The error for the case that no prompt is left. ``fix`` says how to get shorter prompts."""
        if self._over_long == "skip":
            fix += ", or over_long=truncate"
        return UsageError(
            f"no prompt of {what} fits the model: the {self.seen:,} prompts have {self.shortest:,} to {self.longest:,} tokens"
            f" before the output, and the model allows {self._limits.max_tokens:,} with it; use {fix}"
        )


def fit_prompts(prompts: Iterable[Prompt], limits: Limits, over_long: OverLong, what: str, fix: str) -> DataSet:
    """``prompts`` with the rule applied; a hit longer than what is left of its prompt shrinks with it.

    Raises UsageError where nothing is left; it names ``what`` and ``fix``.
    """
    fitter = Fitter(limits, over_long)
    fitted = []
    for prompt in prompts:
        kept = fitter.kept(len(prompt.tokens), prompt.output_tokens)
        if kept == len(prompt.tokens):
            fitted.append(prompt)
        elif kept:
            fitted.append(replace(prompt, tokens=prompt.tokens[:kept], prefix_tokens=min(prompt.prefix_tokens, kept)))
    if not fitted:
        raise fitter.nothing_fits(what, fix)
    return DataSet(tuple(fitted), fitter.notes())


def refuse_too_many(tokens: int, what: str, fix: str) -> None:
    """Raise UsageError where all prompts of ``what`` together have more than ``MOST_TOKENS``, before any is made."""
    if tokens > MOST_TOKENS:
        raise UsageError(f"the prompts of {what} have more than {MOST_TOKENS:,} tokens together; use {fix}")


def rounding_notes(what: str, tokens: int, limits: Limits) -> tuple[str, ...]:
    """A sentence where a shared part of ``tokens`` tokens is not whole chunks, so that less than it can hit."""
    usable = whole_chunks(tokens, limits.chunk_tokens)
    if usable == tokens:
        return ()
    return (f"{what} of {tokens:,} tokens hits for {usable:,}: chunks have {limits.chunk_tokens:,} tokens.",)


def with_notes(data: DataSet, notes: Sequence[str]) -> DataSet:
    """``data`` with ``notes`` behind its own."""
    return replace(data, notes=(*data.notes, *notes))
