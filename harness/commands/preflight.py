"""Before minutes are spent: whether what a measurement needs is there, how long it will take, and what memory. Starts nothing."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harness.core.errors import SetupError, TtftError
from harness.core.text import redact

if TYPE_CHECKING:
    from harness.experiment.plan import Setting

GIB = 1 << 30
PATIENCE_S = 20.0


class Refused(str):
    """A line of a plan that says why the measurement would fail."""

    def __new__(cls, why: object) -> "Refused":
        """The line for a reason."""
        return super().__new__(cls, f"refused   {why}")


def print_plan(lines: Iterable[str]) -> None:
    """Print a plan. Raises SetupError afterwards if a line of it says that something is refused."""
    refused = 0
    for line in lines:
        typer.echo(line)
        refused += isinstance(line, Refused)
    if refused:
        what = "what the line above" if refused == 1 else f"what the {refused} lines above"
        raise SetupError(f"this would not run: mend {what} that begins with 'refused' says")


def preflight(setting: "Setting", folder: Path, budget: str | None = None, timed: bool = True) -> Iterator[str]:
    """Lines of a plan: store, target, folder, time, memory. ``budget`` as given, to say whether all of it fits; ``timed`` False
    leaves the time out."""
    if not setting.targets:
        yield store_line(setting.experiment.store, stored_bytes(setting))
    if setting.experiment.target:
        yield _target_line(setting.experiment.target, authority=setting.experiment.target_ca)
    for arm in setting.targets:
        authority = setting.experiment.target_ca if arm.options.url.startswith("https:") else ""
        yield _target_line(arm.options.url, arm.options.key, authority)
    yield from _group_lines(setting)
    yield from folder_lines(folder)
    if timed:
        yield from _time_lines(setting, folder, budget)
    yield from _memory_lines(setting)


def _group_lines(setting: "Setting") -> Iterator[str]:
    """Arms whose groups of layers are not those of the model: an engine would say so only once vLLM has started."""
    from harness.core.recurrence import groups_of
    from harness.replay.kv_shape import kv_shape

    for arm in setting.arms.values():
        groups = getattr(arm.options, "groups", "")
        if "+" in groups:
            try:
                layers = kv_shape(setting.experiment.model, setting.dtype).layers
            except TtftError:
                return  # the model does not tell
            try:
                groups_of(groups, layers)
            except TtftError as error:
                yield Refused(f"arm {arm.name}: {error}")


def stored_bytes(setting: "Setting") -> int | None:
    """What priming writes; None if the model does not tell."""
    from harness.replay.kv_shape import kv_shape

    try:
        shape = kv_shape(setting.experiment.model, setting.dtype)
    except TtftError:
        return None
    return setting.primed_chunks * setting.experiment.chunk_tokens * shape.layers * shape.token_bytes


def store_line(url: str, size: int | None = None) -> str:
    """Open the store, write one small object and delete it again."""
    from harness.stores._checks import fresh_prefix
    from harness.stores.base import open_store

    try:
        with open_store(url) as store:
            key = f"{fresh_prefix('check')}plan"
            store.write(key, [b"written by a dry run, to see whether it can be"])
            store.delete([key])
    except TtftError as error:
        return Refused(f"the store cannot be used: {error}")
    return f"store     {redact(url)} is there and can be written" + (f"; priming takes {_gib(size)}" if size else "")


def _target_line(url: str, key: str = "", authority: str = "") -> str:
    """Whether a server answers and takes the key, of this environment variable or the usual ones; what it serves is looked at
    when it is measured. ``authority``: the PEM file of who signed its certificate; empty: the system's."""
    import asyncio

    import aiohttp

    from harness.replay.target import key_header, reason_of
    from harness.replay.target_tls import distrust, trusted
    from harness.replay.target_url import KEYS

    async def ask() -> int:
        client = aiohttp.ClientSession(
            headers=key_header(key),
            timeout=aiohttp.ClientTimeout(total=PATIENCE_S),
            connector=aiohttp.TCPConnector(ssl=trusted(url, authority) or True),
        )
        try:
            async with client as http, http.get(f"{url}/v1/models") as answer:
                return answer.status
        except aiohttp.ClientConnectorCertificateError as error:
            raise await distrust(url, error, authority) from error

    try:
        status = asyncio.run(ask())
    except TtftError as error:
        return Refused(error)
    except TimeoutError:
        return Refused(f"the server at {url} does not answer within {PATIENCE_S:.0f} s; is it awake?")
    except (aiohttp.ClientError, OSError) as error:
        return Refused(f"the server at {url} cannot be reached ({reason_of(error)}); start it, or correct --target")
    if status in (401, 403):
        return Refused(f"the server at {url} refuses the key (it answers {status}); set {key or KEYS[0]} to its key")
    return f"target    {url} answers"


def folder_lines(folder: Path) -> Iterator[str]:
    """Nothing if the results folder can be made and written."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = "is no folder" if not there.is_dir() else "cannot be written"
        yield Refused(f"{there} {what}, so {folder} cannot be made; give another --out")


def _time_lines(setting: "Setting", folder: Path, budget: str | None) -> Iterator[str]:
    from harness.core.budget import parse_duration
    from harness.experiment.sweep.estimate import duration, estimate_of

    expected = estimate_of(setting, folder)
    fits = ""
    if budget and expected.seconds > parse_duration(budget):
        fits = f"; more than the budget of {budget}, so it ends with fewer rounds than planned"
    if setting.times:
        fits += f"; each run lasts {duration(max(setting.times))} at least, as its arrivals say"
    yield f"time      {expected.text}{fits}"


def _memory_lines(setting: "Setting") -> Iterator[str]:
    """Of this machine: none for a target, whose memory is its own."""
    from harness.core.machine import uses_gpu

    if setting.experiment.target or setting.targets:
        return
    processes = max(len(setting.peers) + (len(setting.peers) < len(setting.arms)), 1)
    weights, cache = _weights(setting.model.path), int(setting.experiment.kv_cache_gib * GIB)
    each = [f"{_gib(weights)} of weights" if weights else "the weights", f"{_gib(cache)} of KV cache"]
    parts = [f"{processes} x ({' + '.join(each)})" if processes > 1 else " + ".join(each)]
    total = processes * (weights + cache)
    for arm in setting.peers:
        own = sum(value for name, value in arm.options.model_dump().items() if name.endswith("_gib") and value)
        if own:
            parts.append(f"{own:g} GiB of {arm.name}")
            total += int(own * GIB)
    if setting.experiment.store.partition("://")[0].rpartition("+")[2] == "mem" and (stored := stored_bytes(setting)):
        parts.append(f"{_gib(stored)} in the store")
        total += stored
    free = _available()
    line = f"memory    {_gib(total)} and what vLLM itself takes: {', '.join(parts)}"
    if uses_gpu():
        yield f"{line}; weights and KV cache lie on the GPU"
    elif free is not None:
        few = "; THAT IS MORE THAN THERE IS, lower kv_cache_gib" if total > free else ""
        yield f"{line}; {_gib(free)} are available{few}"
    else:
        yield line


def _weights(path: str) -> int:
    """Bytes of the model's weights; 0 if it is not on this machine yet."""
    folder = Path(path)
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.is_dir() else 0


def _available(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    try:
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB" if size >= GIB / 100 else f"{size / 2**20:.2f} MiB"
