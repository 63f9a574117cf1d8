"""What a peer is: how vLLM uses it, and how its cache state is set and verified.

A peer is one file in this folder: a subclass of ``Peer`` with a ``name``, an ``Options`` model, and ``transfer``.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

from harness.core.errors import SetupError
from harness.core.options import Options, parse_options, split_spec


class PeerOptions(Options):
    """A peer's settings; each peer declares its own."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer works. ``folder``: its own, empty, on the disk of the experiment's store. ``chunk_tokens``: as ours."""

    folder: Path
    chunk_tokens: int


class Peer(ABC):
    """A KV connector that is not ours. It says how to use it; it runs in vLLM's own processes."""

    name: ClassVar[str] = ""
    Options: ClassVar[type[PeerOptions]] = PeerOptions
    grants_hits: ClassVar[bool] = True
    loads_kv: ClassVar[bool] = True
    package: ClassVar[str] = ""
    """The distribution whose version decides what is measured; empty if it is vLLM's own."""
    variables: ClassVar[str] = ""
    """How the peer's own environment variables begin: the user's are unset, since run.json would not show them."""

    def __init__(self, options: PeerOptions, place: Place) -> None:
        self.options = options
        self.place = place

    @classmethod
    def parse(cls, spec: str) -> PeerOptions:
        """The options in ``name:option=value,...``. Raises UsageError."""
        name, options = split_spec(spec)
        return parse_options(cls.Options, options, f"peer '{name}'")

    def check(self) -> None:
        """Raises SetupError if the peer cannot run here, before vLLM starts."""
        if self.package:
            try:
                version(self.package)
            except PackageNotFoundError:
                raise SetupError(
                    f"the arm {self.name} needs the package {self.package}; install it: pip install 'ttft[{self.package}]'"
                ) from None

    @property
    def primes_prompts(self) -> bool:
        """True if only the same prompt hits, so that prompts are primed and not their heads."""
        return False

    @property
    def reads_past_cache(self) -> bool:
        """True if its files are read from the disk whatever is in the page cache (O_DIRECT)."""
        return False

    @abstractmethod
    def transfer(self) -> dict[str, Any]:
        """The arguments of vLLM's ``KVTransferConfig``."""

    def environment(self) -> Mapping[str, str]:
        """Variables to be set before vLLM starts. They follow from the options, which run.json holds; secrets stay here."""
        return {}

    def request(self, *, save: bool) -> Mapping[str, Any]:
        """A request's ``kv_transfer_params``. Without ``save`` it must save nothing, if the peer has such a parameter."""
        return {}

    def servers(self) -> AbstractContextManager[None]:
        """What has to run beside vLLM, on loopback, and ends with it."""
        return contextlib.nullcontext()
