"""Several experiments, one after the other, in one start of vLLM, where that is what they would have been started with.

What one leaves behind is gone before the next begins: its chunks are deleted, its span log is read to the end. After a failure
vLLM is stopped, so that whatever it still does reaches no other experiment.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.experiment import correctness
from harness.experiment.conduct import Conductor
from harness.experiment.engine_settings import engine_settings
from harness.experiment.hooks import AtOnce, NoWatch, Progress
from harness.experiment.plan import Setting
from harness.experiment.record import Earlier, recorded
from harness.experiment.session import Session
from harness.replay.in_process import EngineSettings
from harness.results import RunWriter
from harness.stores import Store


class SharedVllm:
    """At most one vLLM at a time, kept while it fits. ``folder`` gets its log and its span log. Use it inside one event loop."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder = folder
        self._store = store
        self._session: Session | None = None
        self._settings: EngineSettings | None = None
        self.starting_s = 0.0
        """Seconds spent on starting, all starts together."""

    @contextlib.asynccontextmanager
    async def session(self, setting: Setting, dtype: str, kv_cache_gib: float) -> AsyncIterator[Session]:
        """A session for one experiment. Raises SetupError or RunError where vLLM does not start."""
        settings = engine_settings(setting, dtype, kv_cache_gib, self._folder / "span_log", save=False)
        if self._session is None or settings != self._settings:
            self.close()
            begun = time.monotonic()
            self._session = Session.start(settings, self._store, self._folder, setting.experiment.chunk_tokens)
            self.starting_s += time.monotonic() - begun
            self._settings = settings
        session = self._session
        try:
            yield session
            session.hand_over(keep_store=setting.experiment.keep_store)
        except BaseException:
            self.close()
            raise

    @property
    def running(self) -> bool:
        """Whether vLLM is up."""
        return self._session is not None

    def close(self) -> None:
        """Stop vLLM, and clean up the store. Safe to call twice."""
        session, self._session, self._settings = self._session, None, None
        if session is not None:
            session.close()


class SharingConductor(Conductor):
    """An experiment that takes its vLLM from a SharedVllm. ``proof``: what an earlier correctness pass of it found."""

    def __init__(self, host: SharedVllm, proof: Mapping[str, Any] | None, *rest: Any) -> None:
        super().__init__(*rest)
        self._host = host
        self._proof = proof

    @contextlib.asynccontextmanager
    async def _session(self, dtype: str, kv_cache_gib: float) -> AsyncIterator[Session]:
        async with self._host.session(self._setting, dtype, kv_cache_gib) as session:
            yield session

    async def _correctness_apart(self, chosen: list[Any]) -> None:
        if self._proof is None:
            await super()._correctness_apart(chosen)
        else:
            self.meta["correctness"] = dict(self._proof)


async def measure_sharing(
    setting: Setting,
    folder: Path,
    command: str,
    progress: Progress,
    store: Store,
    host: SharedVllm,
    earlier: Earlier,
    proof: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """As ``conduct.measure``, in the vLLM that ``host`` has or starts. Returns run.json; raises TtftError."""
    writer = RunWriter(folder)
    conductor = SharingConductor(host, proof, setting, folder, command, progress, store, writer, earlier, NoWatch(), AtOnce())
    try:
        with recorded(conductor.meta, writer):
            await conductor.conduct()
    finally:
        writer.close()
    if conductor.meta["void_runs"]:
        host.close()  # whatever went wrong, the next experiment shall not inherit it
    return conductor.meta


async def prove_sharing(setting: Setting, namespace: str, host: SharedVllm) -> dict[str, Any] | None:
    """The correctness pass of an experiment by itself, in float32; None where it has none. Raises TtftError.

    Where timed runs are not in float32, a group of experiments passes it in one start, and is timed in another.
    """
    experiment = setting.experiment
    chosen = correctness.choose(setting.data.prompts, setting.hits, experiment.correctness_prompts)
    if not chosen:
        return None
    apart = replace(setting, experiment=experiment.model_copy(update={"keep_store": False}))
    async with host.session(apart, "float32", experiment.kv_cache_gib) as session:
        await session.prime([prompt.tokens[:hit] for prompt, hit in chosen], namespace)
        return await correctness.check(session, setting.arms, chosen, namespace)
