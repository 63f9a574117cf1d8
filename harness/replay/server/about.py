"""What a server started by ``ttft serve`` tells its clients: its arms, its store, and where its span log is.

vLLM's API has no place for that, so ``Announce`` answers one more path, ``GET /v1/ttft``. It is a middleware, which vLLM
takes by name (``--middleware``); the path is under /v1, so vLLM's own key guards it.
"""

import json
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from harness.core.errors import RunError
from harness.core.options import Listed
from harness.core.spans import Fact, StartRecord

PATH = "/v1/ttft"
FILE = "served.json"
VARIABLE = "TTFT_SERVED"
"""The environment variable by which the server's process learns the folder that holds ``served.json`` and the span log."""
SPAN_LOG = "span_log"
"""Folder of the span log below it."""

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Callable[[], Awaitable[Message]], Send], Awaitable[None]]


class About(BaseModel):
    """One server, as it was started. ``store`` has no secrets; ``start`` is the first record of rank 0's span log."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(default_factory=lambda: secrets.token_hex(8))
    store: str
    arms: Listed[str]
    chunk_tokens: int
    layout: str = "chunk"
    max_model_len: int
    folder: str = ""
    boot: str = Field("", description="of the machine; equal where two processes share a page cache")
    versions: dict[str, str] = {}
    machine: dict[str, Fact] = {}
    binding: dict[str, Fact] = {}
    start: dict[str, Any] = {}

    @field_validator("start")
    @classmethod
    def _a_start_record(cls, start: dict[str, Any]) -> dict[str, Any]:
        StartRecord.model_validate(start)
        return start

    @property
    def span_log(self) -> Path:
        """Where the connector writes its span log, on the server's machine."""
        return Path(self.folder) / SPAN_LOG

    @property
    def here(self) -> bool:
        """Whether the server's folder can be read from here: the same machine, or a shared file system."""
        try:
            return bool(self.folder) and read(Path(self.folder)).id == self.id
        except (OSError, RunError):
            return False

    def write(self, folder: Path) -> None:
        """Leave it in the server's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


def parse(told: Mapping[str, Any]) -> About:
    """From JSON. Raises RunError where it is not what this version understands."""
    try:
        return About.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        what = ".".join(str(part) for part in first["loc"]) or "its answer"
        raise RunError(f"the server's {PATH} cannot be read ({what}: {first['msg']}); serve with this version of ttft") from error


def read(folder: Path) -> About:
    """As it stands in the server's folder. Raises OSError or RunError."""
    try:
        return parse(json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{folder / FILE} is not JSON: {error}") from error


def started(folder: Path) -> dict[str, Any]:
    """The first record of rank 0's span log, by which its writer names itself; empty where there is none yet."""
    try:
        with (folder / SPAN_LOG / "worker-0.jsonl").open("rb") as file:
            record = json.loads(file.readline())
            return record if isinstance(record, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


class Announce:
    """ASGI middleware: answers ``GET /v1/ttft`` where the server behind it would say 404, which says that the key was right."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._folder = Path(os.environ.get(VARIABLE, ""))

    async def __call__(self, scope: MutableMapping[str, Any], receive: Callable[[], Awaitable[Message]], send: Send) -> None:
        """Pass everything else on."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        replaced = False

        async def instead(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and message["status"] == 404:
                replaced = True
            if not replaced:
                await send(message)

        await self._app(scope, receive, instead)
        if replaced:
            body = self._told()
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def _told(self) -> bytes:
        about = read(self._folder)
        return about.model_copy(update={"start": started(self._folder)}).model_dump_json().encode()
