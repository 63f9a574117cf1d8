"""Any KV connector: one that vLLM knows by name, or one in a module of yours."""

import json
import os
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from harness.connector.peers.base import Peer, PeerOptions, Place
from harness.core.errors import SetupError, UsageError
from harness.core.options import parse_options

ENVIRONMENT = "env."
FOLDER = "{folder}"
OURS = "TTFTConnector"

_PLACEHOLDER = re.compile(r"\{[A-Za-z_]\w*\}")


class ConnectorOptions(PeerOptions):
    """``connector:NAME`` and these; every other option is an entry of ``kv_connector_extra_config``, as JSON or as text."""

    connector: str = Field(description="class name of the connector: the first word, without option=")
    module: str = Field("", description="module that defines it, if vLLM does not know it by name")
    role: Literal["kv_both", "kv_producer", "kv_consumer"] = Field("kv_both", description="kv_role")
    prime: Literal["heads", "prompts"] = Field(
        "heads", description="prompts: for a connector that hits only the same prompt again, as vLLM's ExampleConnector"
    )
    config: dict[str, Any] = Field(default={}, description="collected from the options that are not listed here")
    environment: dict[str, str] = Field(default={}, description="collected from options env.NAME=value")


class Connector(Peer):
    """``connector:NAME,option=value,...``. In values ``{folder}`` is a folder of its own, ``$NAME`` a variable's value."""

    name: ClassVar[str] = "connector"
    Options = ConnectorOptions

    def __init__(self, options: PeerOptions, place: Place) -> None:
        super().__init__(options, place)
        self._own = ConnectorOptions.model_validate(options.model_dump())

    @classmethod
    def parse(cls, spec: str) -> PeerOptions:
        """The first item is the connector's name."""
        words = [item.strip() for item in spec.partition(":")[2].split(",") if item.strip()]
        first, items = (words[0], words[1:]) if words else ("", [])
        if not first or "=" in first:
            raise UsageError(f"'{spec}' names no connector; write connector:NAME,option=value, for instance connector:{EXAMPLE}")
        if first == OURS:
            raise UsageError(f"'{spec}' names our own connector, which every engine of ours uses; name the engine instead")
        plain: dict[str, Any] = {"connector": first}
        config: dict[str, Any] = {}
        environment: dict[str, str] = {}
        for item in items:
            key, equals, value = (part.strip() for part in item.partition("="))
            if not equals or not key:
                raise UsageError(f"'{item}' in '{spec}' is not option=value")
            variable = key.removeprefix(ENVIRONMENT) if key.startswith(ENVIRONMENT) else None
            if variable == "":
                raise UsageError(f"'{item}' in '{spec}' names no variable; write env.NAME=value")
            if key in plain or key in config or variable in environment:
                raise UsageError(f"option '{key}' is listed twice in '{spec}'")
            unknown = [one for one in _PLACEHOLDER.findall(value) if one != FOLDER]
            if unknown:
                raise UsageError(
                    f"'{item}' in '{spec}' has the unknown placeholder {unknown[0]}; there is only {FOLDER}; "
                    "if the connector itself wants it, put the value into an environment variable and write $NAME"
                )
            if variable is not None:
                environment[variable] = value
            elif key in ("module", "role", "prime"):
                plain[key] = value
            else:
                config[key] = _value(value)
        return parse_options(cls.Options, plain | {"config": config, "environment": environment}, f"peer '{cls.name}'")

    @property
    def primes_prompts(self) -> bool:
        """As the user says."""
        return self._own.prime == "prompts"

    def check(self) -> None:
        """Whether every ``$NAME`` is set."""
        super().check()
        self.transfer()
        self.environment()

    def transfer(self) -> dict[str, Any]:
        """The connector with its configuration."""
        arguments: dict[str, Any] = {
            "kv_connector": self._own.connector,
            "kv_role": self._own.role,
            "kv_connector_extra_config": {key: self._filled(value) for key, value in self._own.config.items()},
        }
        return arguments | ({"kv_connector_module_path": self._own.module} if self._own.module else {})

    def environment(self) -> Mapping[str, str]:
        """As the user says."""
        return {key: str(self._filled(value)) for key, value in self._own.environment.items()}

    def _filled(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._filled(one) for one in value]
        if isinstance(value, dict):
            return {key: self._filled(one) for key, one in value.items()}
        if not isinstance(value, str):
            return value
        if value.startswith("$"):
            if value[1:] not in os.environ:
                raise SetupError(f"the arm connector:{self._own.connector} needs the environment variable {value[1:]}; set it")
            return os.environ[value[1:]]
        return value.replace(FOLDER, str(self.place.folder))


EXAMPLE = "ExampleConnector,shared_storage_path={folder},prime=prompts"


def _value(text: str) -> Any:
    """JSON if it is JSON (true, 8, null), else text, also NaN and other numbers that JSON does not have."""
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)
    except ValueError:
        return text
    return value
