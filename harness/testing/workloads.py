"""``WorkloadTests``: what every workload must keep to. A subclass names a workload and its options.

    class TestMine(WorkloadTests):
        workload = Mine

        @pytest.fixture
        def options(self) -> dict[str, object]:
            return {"prompts": 8}

The options should make at least two prompts and share a prefix between some of them.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, ClassVar

import pytest

from harness.core.errors import UsageError
from harness.core.options import describe_options, parse_options
from harness.workloads.base import DataSet, Limits, Workload

_IN_ANOTHER_PROCESS = """
import importlib, json, sys
from harness.testing.workloads import build
from harness.workloads.base import Limits
module, name, options, limits = json.loads(sys.stdin.read())
print(build(getattr(importlib.import_module(module), name), options, Limits(**limits)).fingerprint())
"""


def build(workload: type[Workload], options: Mapping[str, Any], limits: Limits) -> DataSet:
    """The data set of ``workload`` with ``options`` as a user would give them. Raises UsageError."""
    return workload(parse_options(workload.Options, options, workload.name)).build(limits)


class WorkloadTests:
    """The contract of ``Workload``. Set ``workload`` and override the fixture ``options``.

    ``limits``: what the prompts must keep to. ``shares``: False where no prefix is shared on purpose.
    The class must be importable by its module and name, since one test builds it in another process.
    """

    workload: ClassVar[type[Workload]]
    limits: ClassVar[Limits] = Limits(vocabulary=1000, max_tokens=4096, chunk_tokens=16)
    shares: ClassVar[bool] = True

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        """The options to build with; JSON values."""
        return {}

    @pytest.fixture
    def data(self, options: dict[str, Any]) -> DataSet:
        """The data set under test."""
        return build(self.workload, options, self.limits)

    def test_makes_prompts(self, data: DataSet) -> None:
        """There is something to send, and each prompt has a token and asks for one."""
        assert data.prompts
        assert all(prompt.tokens and prompt.output_tokens >= 1 for prompt in data.prompts)

    def test_building_again_gives_the_same(self, data: DataSet, options: dict[str, Any]) -> None:
        """Also from one and the same object, twice."""
        made = self.workload(parse_options(self.workload.Options, options, self.workload.name))
        assert made.build(self.limits) == data
        assert made.build(self.limits) == data

    def test_another_process_gives_the_same(self, data: DataSet, options: dict[str, Any]) -> None:
        """With another seed of Python's ``hash``, which must play no part."""
        hash_seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            [sys.executable, "-c", _IN_ANOTHER_PROCESS],
            input=json.dumps([self.workload.__module__, self.workload.__name__, options, asdict(self.limits)]),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.strip() == data.fingerprint(), done.stderr

    def test_another_seed_gives_other_tokens(self, data: DataSet, options: dict[str, Any]) -> None:
        """Of the same lengths and hits."""
        if "seed" not in self.workload.Options.model_fields:
            pytest.skip(f"{self.workload.name} draws no tokens: it has no option seed")
        other = build(self.workload, {**options, "seed": int(options.get("seed", 0)) + 1}, self.limits)
        assert [(p.id, len(p.tokens), p.prefix_tokens) for p in other.prompts] == [
            (p.id, len(p.tokens), p.prefix_tokens) for p in data.prompts
        ]
        assert all(mine.tokens != theirs.tokens for mine, theirs in zip(data.prompts, other.prompts, strict=True))

    def test_ids_are_unique(self, data: DataSet) -> None:
        """Samples are told apart by them."""
        assert len({prompt.id for prompt in data.prompts}) == len(data.prompts)

    def test_tokens_are_plain_ints_of_the_vocabulary(self, data: DataSet) -> None:
        """Plain, because vLLM and JSON take no numpy integers."""
        for prompt in data.prompts:
            assert all(type(token) is int and 0 <= token < self.limits.vocabulary for token in prompt.tokens)

    def test_prompts_fit_the_model(self, data: DataSet) -> None:
        """Prompt and output together."""
        assert all(len(p.tokens) + p.output_tokens <= self.limits.max_tokens for p in data.prompts)

    def test_a_smaller_model_gets_less_and_says_so(self, data: DataSet, options: dict[str, Any]) -> None:
        """Nothing too long comes through; what was cut is in the notes, and if nothing is left that is an error."""
        longest = max(len(p.tokens) + p.output_tokens for p in data.prompts)
        tight = replace(self.limits, max_tokens=longest - 1)
        try:
            less = build(self.workload, options, tight)
        except UsageError as error:
            assert f"{tight.max_tokens:,}" in str(error)
            return
        assert all(len(p.tokens) + p.output_tokens <= tight.max_tokens for p in less.prompts)
        assert set(less.notes) - set(data.notes)

    def test_prefix_lies_in_the_prompt(self, data: DataSet) -> None:
        """0 to all of it."""
        assert all(0 <= prompt.prefix_tokens <= len(prompt.tokens) for prompt in data.prompts)

    def test_claimed_prefixes_are_shared(self, data: DataSet) -> None:
        """Whatever a prompt is said to hit is the head of another prompt too."""
        claims = [prompt for prompt in data.prompts if prompt.prefix_tokens]
        if not self.shares:
            pytest.skip(f"these options of {self.workload.name} share no prefix")
        assert claims
        for prompt in claims:
            head = prompt.tokens[: prompt.prefix_tokens]
            others = (other for other in data.prompts if other is not prompt)
            assert any(other.tokens[: len(head)] == head for other in others), prompt.id

    def test_arrivals_ascend(self, data: DataSet) -> None:
        """From 0 or later."""
        arrivals = [prompt.arrival_s for prompt in data.prompts]
        assert arrivals == sorted(arrivals)
        assert arrivals[0] >= 0

    def test_every_option_is_described(self) -> None:
        """``ttft list workloads`` shows the descriptions."""
        assert all(description for _, _, description in describe_options(self.workload.Options))

    def test_an_unknown_option_is_refused(self, options: dict[str, Any]) -> None:
        """With the known ones."""
        with pytest.raises(UsageError, match=r"unknown option of .*known: "):
            build(self.workload, {**options, "no_such_option": 1}, self.limits)
