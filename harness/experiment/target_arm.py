"""A running server as an arm: ``target:http://HOST:PORT,name=a``. It has no connector of ours, so it hits what it likes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field

from harness.core.errors import UsageError
from harness.core.options import Options, parse_options, split_spec
from harness.experiment.settings import Experiment
from harness.replay.target_url import check_url
from harness.results.evidence import BOUNDS

NAME = "target"
NO_STORE = "mem://no-store"
"""Of an experiment in which nothing is stored by us."""


class TargetOptions(Options):
    """``target:URL`` and these."""

    url: str = Field(description="address of the server: the first word, without option=")
    name: str = Field("", description="what its rows are called; empty: HOST:PORT")
    key: str = Field("", description="environment variable with its key; empty: TTFT_API_KEY")
    reset: Literal["run", "request", "never"] = Field(
        "run",
        description="when its own cache is emptied, if it can be: before each run; before each request, so that hits come from "
        "what lies behind that cache; never",
    )
    expect_hit: Literal["", "workload", "none"] = Field(
        "", description="declared where nothing tells its hits: as the workload implies, or none at all"
    )


class Server:
    """What an engine is to other arms: whatever the server does by itself."""

    name: ClassVar[str] = NAME
    grants_hits: ClassVar[bool] = True
    loads_kv: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class TargetArm:
    """One running server, under the name of its rows."""

    name: str
    engine: type[Server]
    options: TargetOptions

    def expects(self, whole: int, shared: int) -> tuple[int, int]:
        """The fewest and the most tokens that a prompt may hit: ``whole`` is whole chunks, and a server's own blocks may
        be smaller than a chunk, so it may hit up to the last token that was ``shared``."""
        return (0, 0) if self.options.expect_hit == "none" else (whole, shared)


def of_targets(experiment: Experiment) -> tuple[Experiment, dict[str, TargetArm]]:
    """An experiment whose arms are servers, without what has no meaning there, and its arms by name. Raises UsageError."""
    others = [text for text in experiment.arms if not is_target(text)]
    if others:
        raise UsageError(
            f"the arm {others[0]} is no server, and the arms of one measurement are all servers ({NAME}:URL) or none; "
            "measure them in two"
        )
    if experiment.target:
        raise UsageError(
            f"--target {experiment.target} is a server with our arms, and here are arms of their own ({NAME}:URL); give one"
        )
    arms: dict[str, TargetArm] = {}
    for arm in map(parse_target, experiment.arms):
        if arm.name in arms:
            raise UsageError(f"two arms are called {arm.name}; give one of them another name, as {NAME}:URL,name=b")
        arms[arm.name] = arm
    if experiment.page_cache != "warm":
        raise UsageError("page_cache=dropped means files of our stores, which an arm that is a server does not have; use warm")
    each = [arm.name for arm in arms.values() if arm.options.reset == "request"]
    if each and not experiment.one_by_one:
        raise UsageError(f"{each[0]} has reset=request, which would take the hits of other requests; serve one at a time")
    return experiment.model_copy(update={"bounds": False, "store": NO_STORE}), arms


def is_target(text: str) -> bool:
    """Whether an arm is meant to be a running server."""
    return text.partition(":")[0].strip() == NAME


def parse_target(text: str) -> TargetArm:
    """``target:http://127.0.0.1:8000,name=a`` as an arm; ``...@label`` makes a second one. Raises UsageError."""
    spec, at, label = text.partition("@")
    url, _, rest = spec.partition(":")[2].partition(",")
    if "@" in label or not re.fullmatch(
        r"[a-z]+://[^@/:=\[]*(\[[^@/]*\])?(:\d+)?(/[^@=]*)?", url
    ):  # not repeated: it may hold a password
        raise UsageError(
            f"an arm that is a server is written {NAME}:http://HOST:PORT,name=NAME; a key goes into the environment variable "
            "TTFT_API_KEY, or into one that key= names"
        )
    address = check_url(url, "--arm target:")
    _, options = split_spec(f"{NAME}:{rest}")
    parsed = parse_options(TargetOptions, {**options, "url": address}, f"arm '{NAME}'")
    if not re.fullmatch(r"([A-Za-z_][A-Za-z0-9_]*)?", parsed.key):  # not repeated, and not kept in run.json: it may be the key
        raise UsageError("key= names the environment variable that holds the server's key, and this is no name of one")
    if parsed.name in BOUNDS or not re.fullmatch(r"[A-Za-z0-9._-]*", parsed.name):
        raise UsageError(
            f"name={parsed.name} cannot be the name of an arm; write letters, digits, dots and dashes, and not "
            + " or ".join(BOUNDS)
        )
    return TargetArm((parsed.name or urlsplit(address).netloc) + at + label, Server, parsed)


def shared_tokens(prompts: Sequence[Sequence[int]], heads: Sequence[Sequence[int]]) -> list[int]:
    """How many leading tokens each prompt has in common with any other one, or with a head; the last one is always computed."""
    marked = sorted([(tuple(tokens), place) for place, tokens in enumerate(prompts)] + [(tuple(head), -1) for head in heads])
    longest = [0] * len(prompts)
    for (left, one), (right, other) in pairwise(marked):  # in this order the next neighbours have the most in common
        same = _common(left, right)
        for place, tokens in ((one, left), (other, right)):
            if place >= 0:
                longest[place] = max(longest[place], min(same, len(tokens) - 1))
    return longest


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    length = min(len(left), len(right))
    return next((place for place in range(length) if left[place] != right[place]), length)
