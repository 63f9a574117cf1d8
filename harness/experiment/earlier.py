"""What a run's folder already holds when an interrupted experiment is taken up again."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.errors import UsageError
from harness.experiment import environment
from harness.experiment.order import PlannedRun, schedule
from harness.experiment.setting import RECOMPUTE, Setting
from harness.results import Run
from harness.stores.base import redact


@dataclass(frozen=True, slots=True)
class Earlier:
    """``finished``: (pair, arm) of the runs of complete rounds. ``next_run``: first unused number. ``tokens``: the
    first digest and its arm by prompt, for the proof that tokens are equal. ``meta``: what to keep of run.json."""

    finished: frozenset[tuple[int, str]] = frozenset()
    next_run: int = 0
    tokens: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    def left_of(self, plan: Sequence[PlannedRun]) -> list[PlannedRun]:
        """The planned runs still to do, numbered on from what there is."""
        todo = [planned for planned in plan if (planned.pair, planned.arm) not in self.finished]
        return [replace(planned, run=self.next_run + i) for i, planned in enumerate(todo)]


NOTHING = Earlier()


def earlier_of(run: Run, setting: Setting) -> Earlier:
    """What of ``run`` can be kept: its complete rounds. A round that was cut off is measured anew as a whole, since
    a pair of runs with a restart of vLLM, or a night, between them shares no machine state.

    Raises UsageError where the experiment, data or machine is another one.
    """
    _same(run, "store", run.meta.get("config", {}).get("store"), redact(setting.experiment.store))
    _same(run, "data fingerprint", run.meta.get("data", {}).get("fingerprint"), setting.data.fingerprint())
    _same(run, "machine", run.meta.get("machine"), environment.machine())
    _same(run, "versions", run.meta.get("versions"), environment.versions())
    bound = {name: value for name, value in (run.meta.get("binding") or {}).items() if name in environment.BINDING}
    _same(run, "binding of threads", bound, environment.binding())
    rows = run.requests
    unfinished = [int(entry["run"]) for entry in run.meta.get("runs", []) if not entry.get("done")]
    complete = rows[~rows["run"].isin(unfinished)]
    loading = [name for name, arm in setting.arms.items() if arm.engine.loads_kv]
    witnesses = complete[complete["arm"].isin(loading) & complete["void"].isna() & complete["error"].isna()]
    tokens: dict[str, tuple[str, str]] = {}
    for prompt, digest, arm in zip(witnesses["prompt"], witnesses["output_digest"], witnesses["arm"], strict=True):
        tokens.setdefault(str(prompt), (str(digest), str(arm)))
    done = {(int(pair), str(arm)) for pair, arm in zip(complete["pair"], complete["arm"], strict=True)}
    broken = _broken_rounds(done, setting)
    last = max([-1, *rows["run"].dropna(), *(int(entry["run"]) for entry in run.meta.get("runs", []))])
    # An unfinished run stays in ``runs`` as such, which is why readers leave it out. It is not void: no proof failed.
    kept = {name: run.meta.get(name) for name in ("started", "command")}
    kept["runs"] = [entry | ({"done": False} if entry.get("pair") in broken else {}) for entry in run.meta.get("runs", [])]
    kept["void_runs"] = run.meta.get("void_runs", [])
    kept["resumed"] = [*run.meta.get("resumed", []), run.meta.get("ended")]
    return Earlier(frozenset(place for place in done if place[0] not in broken), int(last) + 1, tokens, kept)


def _broken_rounds(done: Collection[tuple[int, str]], setting: Setting) -> set[int]:
    """Rounds that lack a run of an arm."""
    experiment = setting.experiment
    plan = schedule(list(setting.arms), experiment.pairs, [RECOMPUTE], experiment.recompute_rounds)
    return {planned.pair for planned in plan if (planned.pair, planned.arm) not in done}


def _same(run: Run, what: str, then: object, now: object) -> None:
    if then != now:
        raise UsageError(f"{run.path} cannot be resumed: its {what} is {then}, here it is {now}; begin a new run")
