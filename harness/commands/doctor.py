"""What is installed, what works on this machine, and what to do about the rest.

Every check is cheap: none imports vLLM or touches the GPU.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from harness.commands.options import Json
from harness.commands.terminal import console, only_json
from harness.core import installation
from harness.core.errors import TtftError
from harness.core.installation import Check
from harness.core.machine import default_dtype, instruction_set

if TYPE_CHECKING:
    from harness.core.registry import Registry

GIB = 1 << 30
NEEDED_MEMORY = 8 * GIB
NEEDED_DISK = 3 * GIB
NEEDED_SHARED_MEMORY = 1 * GIB


def checks(place: Path | None = None) -> list[Check]:
    """All cheap checks; ``place`` is where stores are meant to lie, by default the temporary folder."""
    place = Path(tempfile.gettempdir()) if place is None else place
    return [
        installation.python(),
        installation.vllm(),
        installation.torch(),
        installation.accelerator(),
        dtype(),
        machine_size(),
        shared_memory(),
        disk(place),
        direct_io(place),
        page_cache(place),
        threads(),
        *tools(),
        *plugins(),
    ]


def dtype() -> Check:
    """The number format and instruction set that will be used."""
    chosen = default_dtype()
    slow = " (bfloat16 is emulated here, about four times slower)" if chosen == "float32" else ""
    return Check("dtype", None, f"{chosen} on {instruction_set()}{slow}")


def memory() -> tuple[int, int]:
    """Bytes of memory in all, and bytes free to use; the container's limit counts."""
    page = os.sysconf("SC_PAGE_SIZE")
    total, free = page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
    meminfo = Path("/proc/meminfo")
    if meminfo.exists() and (found := re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text(encoding="utf-8"))):
        free = int(found[1]) * 1024
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text(encoding="utf-8").strip()).isdigit():
        total = min(total, int(text))
    return total, min(free, total)


def machine_size() -> Check:
    """Cores and memory are enough for the built-in model."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    total, free = memory()
    detail = f"{cores} cores, {free / GIB:.1f} of {total / GIB:.1f} GiB of memory free"
    if free < NEEDED_MEMORY:
        return Check("cores and memory", False, detail, f"free {NEEDED_MEMORY // GIB} GiB, or take a smaller model")
    if cores < 2:
        return Check("cores and memory", False, detail, "allow two cores: with one, a load cannot overlap compute")
    return Check("cores and memory", True, detail)


def _space(name: str, place: Path, needed: int, fix: str) -> Check:
    if not place.is_dir() or not os.access(place, os.W_OK):
        return Check(name, False, f"{place} is not a folder that can be written to", fix)
    free = shutil.disk_usage(place).free
    detail = f"{free / GIB:.1f} GiB free in {place}"
    return Check(name, True, detail) if free >= needed else Check(name, False, f"{detail}, {needed // GIB} are needed", fix)


def shared_memory() -> Check:
    """Room in /dev/shm, through which the processes of vLLM talk, and where mem:// stores lie."""
    fix = "give more, for instance docker run --shm-size=8g"
    return _space("shared memory", Path("/dev/shm"), NEEDED_SHARED_MEMORY, fix)


def disk(place: Path) -> Check:
    """Room for a store."""
    return _space("disk", place, NEEDED_DISK, "free some, or put the store elsewhere with --store file:///PLACE")


def direct_io(place: Path) -> Check:
    """Reads past the page cache (O_DIRECT) work where stores lie."""
    return _tried("direct reads", place, _read_directly, "take a store without direct=1, or another disk")


def page_cache(place: Path) -> Check:
    """The page cache can be dropped for a file, and that can be verified."""
    return _tried("dropping the page cache", place, _drop, "take --page-cache warm, or another disk")


def _read_directly(folder: Path) -> str | None:
    from harness.stores import open_store
    from harness.stores.base import Read

    with open_store(f"file://{folder}?direct=1") as store:
        store.write("probe", [bytes(8192)])
        store.read([Read("probe", 4096, (memoryview(bytearray(4096)),))])
    return None


def _drop(folder: Path) -> str | None:
    from harness.stores import open_store

    with open_store(f"file://{folder}") as store:
        store.write("probe", [bytes(1 << 20)])
        return None if store.evict_from_os_cache(["probe"]) else "the operating system keeps the file or does not say"


def _tried(name: str, place: Path, probe: Callable[[Path], str | None], fix: str) -> Check:
    """Run ``probe`` on a folder of its own; it returns what went wrong, if anything did."""
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix="ttft-doctor-") as folder:
            problem = probe(Path(folder))
    except (OSError, TtftError) as error:
        problem = str(error)
    return Check(name, False, problem, fix) if problem else Check(name, True, f"tried in {place}")


def threads() -> Check:
    """How vLLM's compute threads are bound, which decides whether fetches get in their way."""
    names = ("VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_NUM_OF_RESERVED_CPU", "OMP_NUM_THREADS", "LD_PRELOAD")
    found = [f"{name}={os.environ[name]}" for name in names if os.environ.get(name)]
    return Check("threads", None, ", ".join(found) or "vLLM binds its threads as it likes")


def tools() -> Iterator[Check]:
    """Programs that only some things need."""
    for program, purpose, package in (
        ("c++", "compiled graphs (without it vLLM runs eagerly)", "g++"),
        ("fio", "the limit in ttft store bench", "fio"),
        ("redis-server", "trying redis:// stores", "redis-server"),
    ):
        found = shutil.which(program)
        yield Check(program, None, found or f"not installed; for {purpose}", "" if found else f"apt-get install {package}")


def plugins() -> Iterator[Check]:
    """Engines, stores and workloads that load, ours and other packages'."""
    from harness.engines import ENGINES
    from harness.stores import STORES
    from harness.workloads import WORKLOADS

    registries: tuple[tuple[str, Registry[Any]], ...] = (("engines", ENGINES), ("stores", STORES), ("workloads", WORKLOADS))
    for name, registry in registries:
        try:
            yield Check(name, True, ", ".join(sorted(registry.all())))
        except (TtftError, ImportError) as error:
            yield Check(name, False, str(error), "fix or uninstall the package that is named")


def doctor(place: Annotated[Path, typer.Option(help="where the store will be")] = Path("/tmp"), as_json: Json = False) -> None:
    """Say what is installed, what works here, and what to do about the rest."""
    if as_json:
        with only_json(True) as answer:
            found = checks(place)
            answer({"schema": 1, "ok": all(one.ok is not False for one in found), "checks": [asdict(one) for one in found]})
        raise typer.Exit(2 * any(one.ok is False for one in found))
    table = Table(box=None, pad_edge=False)
    for column in ("", "check", "found", "what to do"):
        table.add_column(column, overflow="fold")
    failed = False
    for check in checks(place):
        mark = {True: "ok", False: "NO", None: "-"}[check.ok]
        failed = failed or check.ok is False
        table.add_row(mark, escape(check.name), escape(check.detail), escape(check.fix if check.ok is not True else ""))
    console().print(table)
    if failed:
        raise typer.Exit(2)
