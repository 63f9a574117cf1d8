"""All arms into one results folder, the peers' vLLM beside ours.

    OUT/run.json, requests.csv, spans.jsonl    the combined run, as of any comparison
    OUT/lanes/N-NAME/                          what each process wrote itself, with its logs

Every vLLM stays up; whoever has no turn is stopped (SIGSTOP). Neighbouring rounds go through the processes in opposite
directions. A peer that fails is noted with its reason and left behind; the others go on.
"""

import contextlib
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.core.errors import RunError, TtftError
from harness.experiment.at_peer import place_of
from harness.experiment.hooks import NoWatch, Progress, Watch
from harness.experiment.lanes.combine import Combiner
from harness.experiment.lanes.peer_lanes import Party, parties
from harness.experiment.plan import Setting
from harness.experiment.record import declared, now, recorded
from harness.results import RunWriter, load

PATIENCE_S = 900.0
"""A process that says nothing for so long has failed: longer than any run of a usual workload."""


def measure(
    setting: Setting,
    folder: Path,
    command: str,
    progress: Progress,
    watch: Watch | None = None,
    patience_s: float = PATIENCE_S,
) -> dict[str, Any]:
    """Measure all arms in turns and return the run's meta data, as in run.json.

    ``watch`` may end it between two rounds. Raises TtftError where our own arms fail, or any for a watch that needs all;
    else a peer's failure stands in ``failed_arms``. Whatever ends it, the rows so far are on disk, all processes have ended
    and the disk is clean.
    """
    writer = RunWriter(folder)
    driver = Driver(setting, parties(setting, folder, progress, patience_s), command, progress, writer, watch or NoWatch())
    try:
        with recorded(driver.meta, writer, driver.end_all):
            driver.carry_out()
    finally:
        writer.close()
    return driver.meta


class Driver:
    """One measurement under way."""

    def __init__(
        self,
        setting: Setting,
        all_parties: list[Party],
        command: str,
        progress: Progress,
        writer: RunWriter,
        watch: Watch,
    ) -> None:
        self._setting = setting
        self._parties = all_parties
        self._left = list(all_parties)
        self._ended: list[str] = []
        self._command = command
        self._progress = progress
        self._writer = writer
        self._watch = watch
        self.meta: dict[str, Any] = {**declared(setting, writer.path.name, command), **watch.declared}
        self.meta |= {"failed_arms": [], "peers": {}}

    def carry_out(self) -> None:
        """All stages."""
        for party in list(self._left):
            self._guarded(party, self._start)
        self._expect_some()
        self._progress.expect(sum(party.lane.progress.requests for party in self._left))
        experiment = self._setting.experiment
        alone = experiment.concurrency == 1 and self._setting.schedule is None and self._setting.crowd.empty
        combiner = Combiner(self._writer, {arm["name"]: arm for arm in self.meta["arms"]}, alone, name_of=_as_it_is)
        for pair in range(experiment.pairs):
            for party in self._left if pair % 2 == 0 else list(reversed(self._left)):
                self._guarded(party, lambda party, pair=pair: self._round(combiner, party, pair))
            self._expect_some()
            if reason := self._watch.after_round(pair + 1):
                self.meta["stopped"] = {"rounds": pair + 1, "reason": reason}
                return
        for party in list(self._left):
            self._guarded(party, self._finish)

    def _guarded(self, party: Party, step: Any) -> None:
        """Do a step for a party; a peer that fails is ended and left behind.

        Raises TtftError where ours fails, or a peer without which there is nothing to find out.
        """
        try:
            step(party)
        except TtftError as error:
            if not party.peer or self._watch.needs_all:
                raise
            self._left = [other for other in self._left if other is not party]
            self.meta["failed_arms"] += [{"arm": arm, "reason": str(error)} for arm in party.arms]
            self._progress.stage(f"note: {error}; the others go on without it")
            self._end(party)
            self._writer.write_meta(self.meta)

    def _expect_some(self) -> None:
        """Raises RunError where every arm is a peer and none is left."""
        if not self._left:
            first = self.meta["failed_arms"][0]
            raise RunError(f"no arm is left to measure: {first['reason']}")

    def _start(self, party: Party) -> None:
        party.lane.start(party.experiment.model_dump(exclude_defaults=True), self._command)
        theirs = load(party.lane.folder, spans=False).meta
        self._take_in(party, theirs)
        self._writer.write_meta(self.meta)

    def _take_in(self, party: Party, theirs: dict[str, Any]) -> None:
        """What a process has found out while it got ready."""
        if party.peer:
            proof = theirs.get("correctness", {"status": "skipped"})
            self.meta["peers"][party.lane.name] = {**theirs.get("peer", {}), "correctness": proof}
            if all(other.peer for other in self._parties):  # nobody of ours has proven anything for all
                self.meta["correctness"] = {"status": _together(self.meta["peers"].values())}
            if "torch_threads" not in self.meta["binding"]:
                self.meta["binding"] |= theirs.get("binding", {})
            return
        self.meta |= {name: theirs[name] for name in ("geometry", "direct_reads", "binding", "correctness") if name in theirs}

    def _round(self, combiner: Combiner, party: Party, pair: int) -> None:
        """All of a party's runs of one round."""
        while party.lane.turn is not None and party.lane.turn.round == pair:
            self._one(combiner, party)

    def _one(self, combiner: Combiner, party: Party) -> None:
        """One run, from go to its rows in the combined folder."""
        run, turn = len(self.meta["runs"]), party.lane.turn
        if turn is None:
            return
        entry = {"run": run, "round": turn.round, "arm": turn.arm, "started": now(), "done": False}
        self.meta["runs"].append(entry)
        self._writer.write_meta(self.meta)
        theirs = party.lane.run(f"in run {run} ({turn.arm})")
        rows, void = combiner.take(party.lane.rows, party.lane.called, theirs, run)
        entry["done"] = True
        self.meta["void_runs"] += void
        self._writer.write_meta(self.meta)
        for ttft_s in rows:
            self._progress.done(turn.arm, ttft_s)
        if party.peer and not any(ttft_s is not None for ttft_s in rows):  # its vLLM is gone: all other runs would be the same
            errors = load(party.lane.folder, spans=False).requests["error"].dropna()
            raise RunError(
                f"the arm {turn.arm} failed every request of run {run}: {errors.iloc[-1] if len(errors) else 'no token'}"
            )

    def _finish(self, party: Party) -> None:
        self._progress.stage(f"{party.lane.name}: stopping vLLM")
        party.lane.worker.finish()

    def end_all(self) -> None:
        """End every process, however it stands, and note what the stopped ones have used while others were measured."""
        with contextlib.ExitStack() as ends:  # each of them, whatever becomes of the others
            for party in self._parties:
                ends.callback(self._end, party)
        self.meta["idle_cpu_s"] = {party.lane.name: round(party.lane.worker.idle_cpu_s, 3) for party in self._parties}

    def _end(self, party: Party) -> None:
        """Once: the number of a process group that is gone may be another's later on."""
        if party.lane.name in self._ended:
            return
        self._ended.append(party.lane.name)
        experiment = self._setting.experiment
        try:
            self.meta["warnings"] += party.lane.end(experiment.store, experiment.keep_store)
        finally:
            if party.peer:
                folder = place_of(self._setting, party.lane.folder).folder
                shutil.rmtree(folder, ignore_errors=True)
                with contextlib.suppress(OSError):  # not the last peer, or another run's
                    folder.parent.rmdir()


def _together(peers: Iterable[Mapping[str, Any]]) -> str:
    """Passed only where each has."""
    return "passed" if all(peer["correctness"]["status"] == "passed" for peer in peers) else "skipped"


def _as_it_is(arm: str, side: str) -> str:
    """Arms have names of their own here."""
    return arm


__all__ = ["measure"]
