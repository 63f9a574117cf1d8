"""Groups of prompts with a shared beginning: the plainest way to ask for an exact hit."""

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from harness.workloads._fit import FittedOptions, fit_prompts, rounding_notes, with_notes
from harness.workloads.base import DataSet, Limits, Prompt, Workload, WorkloadOptions, token_block


class SharedPrefixOptions(FittedOptions):
    """Options of ``shared_prefix``."""

    groups: int = Field(4, ge=1, description="groups of prompts; prompts of one group share their prefix")
    prefix: int = Field(2048, ge=1, description="tokens of the shared prefix, which is the hit")
    suffix: int = Field(128, ge=1, description="tokens behind the prefix, different in every prompt")
    prompts: int = Field(4, ge=1, description="prompts a group")
    output: int = Field(4, ge=1, description="tokens to generate for each prompt")
    seed: int = Field(0, description="another seed gives other tokens")


class SharedPrefix(Workload):
    """``groups`` times ``prompts`` requests, the groups taking turns (g0p0, g1p0, ..., g0p1, ...).

    The hit is the whole prefix for every prompt, the first of its group too: the store is primed.
    """

    name: ClassVar[str] = "shared_prefix"
    Options: ClassVar[type[WorkloadOptions]] = SharedPrefixOptions
    options: SharedPrefixOptions

    def build(self, limits: Limits) -> DataSet:
        """All prompts in sending order. Raises UsageError where they don't fit the model."""
        o = self.options
        data = fit_prompts(self._prompts(limits), limits, o.over_long, self.name, "a smaller prefix= or suffix=")
        return with_notes(data, rounding_notes("A shared prefix", o.prefix, limits))

    def _prompts(self, limits: Limits) -> Iterator[Prompt]:
        o = self.options
        root = f"{o.seed}/{self.name}"
        prefixes = [tuple(token_block(f"{root}/prefix/{g}", o.prefix, limits.vocabulary).tolist()) for g in range(o.groups)]
        for p in range(o.prompts):
            for g, prefix in enumerate(prefixes):
                suffix = token_block(f"{root}/suffix/{g}/{p}", o.suffix, limits.vocabulary).tolist()
                yield Prompt(f"g{g}p{p}", (*prefix, *suffix), o.prefix, o.output)
