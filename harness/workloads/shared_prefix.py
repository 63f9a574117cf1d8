"""Groups of prompts with a shared beginning: the plainest way to ask for an exact hit, or for a hit rate and a working set."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from harness.workloads._fit import FittedOptions, fit_prompts, refuse_too_many, rounding_notes, with_notes
from harness.workloads.base import DataSet, Limits, Prompt, Tokens, TokensOrNone, Workload, WorkloadOptions, token_block


class SharedPrefixOptions(FittedOptions):
    """Options of ``shared_prefix``."""

    groups: int = Field(4, ge=1, le=10**6, description="groups of prompts; prompts of one group share their prefix")
    prefix: Tokens = Field(2048, ge=1, le=10**7, description="tokens of the shared prefix, which is the hit")
    suffix: Tokens = Field(128, ge=1, le=10**7, description="tokens behind the prefix, different in every prompt")
    prompts: int = Field(4, ge=1, le=10**6, description="prompts per group")
    working_set: TokensOrNone = Field(
        None,
        ge=1,
        le=10**12,
        description="instead of groups: this many tokens in all shared prefixes together, rounded up to whole prefixes;"
        " more than a store holds makes it evict",
    )
    hit_rate: float = Field(
        1.0, gt=0, le=1, description="share of the prompts that begin with their group's prefix; the others share nothing"
    )
    output: int = Field(4, ge=1, description="tokens to generate for each prompt")
    seed: int = Field(0, description="another seed gives other tokens")

    @model_validator(mode="after")
    def _groups_once(self) -> "SharedPrefixOptions":
        if self.working_set is not None and "groups" in self.model_fields_set:
            raise ValueError("groups= and working_set= both say how many prefixes there are; give one of them")
        return self


class SharedPrefix(Workload):
    """``groups`` times ``prompts`` requests, the groups taking turns (g0p0, g1p0, ..., g0p1, ...).

    The hit is the whole prefix, for the first prompt of a group too: the store is primed. With ``hit_rate`` below 1 the
    prompts that share nothing are spread over the run by chance, the same ones for every seed. Since groups take turns, a
    prefix comes again only after all others: a store that evicts what was used least recently, and holds less than
    ``working_set`` tokens, has then evicted it.
    """

    name: ClassVar[str] = "shared_prefix"
    Options: ClassVar[type[WorkloadOptions]] = SharedPrefixOptions
    options: SharedPrefixOptions

    def build(self, limits: Limits) -> DataSet:
        """All prompts in sending order. Raises UsageError where they don't fit the model."""
        o = self.options
        tokens = self.groups * (o.prefix + o.prompts * (o.prefix + o.suffix))
        refuse_too_many(tokens, self.name, "smaller groups=, working_set=, prompts=, prefix= or suffix=")
        data = fit_prompts(self._prompts(limits), limits, o.over_long, self.name, "a smaller prefix= or suffix=")
        return with_notes(data, rounding_notes("A shared prefix", o.prefix, limits))

    @property
    def groups(self) -> int:
        """How many prefixes take turns."""
        o = self.options
        return o.groups if o.working_set is None else -(-o.working_set // o.prefix)

    def _prompts(self, limits: Limits) -> Iterator[Prompt]:
        o, groups = self.options, self.groups
        root = f"{o.seed}/{self.name}"
        prefixes = [tuple(token_block(f"{root}/prefix/{g}", o.prefix, limits.vocabulary).tolist()) for g in range(groups)]
        fresh = self._fresh(groups * o.prompts)
        for p in range(o.prompts):
            for g, prefix in enumerate(prefixes):
                suffix = token_block(f"{root}/suffix/{g}/{p}", o.suffix, limits.vocabulary).tolist()
                if p * groups + g in fresh:
                    own = token_block(f"{root}/fresh/{g}/{p}", o.prefix, limits.vocabulary).tolist()
                    yield Prompt(f"g{g}p{p}", (*own, *suffix), 0, o.output)
                else:
                    yield Prompt(f"g{g}p{p}", (*prefix, *suffix), o.prefix, o.output)

    def _fresh(self, prompts: int) -> frozenset[int]:
        """The places of those prompts, of so many, that share nothing: exactly as many as ``hit_rate`` says, rounded."""
        count = prompts - round(prompts * self.options.hit_rate)
        if not count:
            return frozenset()
        drawn = token_block(f"{self.name}/fresh", prompts, 2**32)
        return frozenset(np.argsort(drawn, kind="stable")[:count].tolist())
