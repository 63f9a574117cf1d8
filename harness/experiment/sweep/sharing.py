"""Several experiments, one after the other, in one start of vLLM, if each would have been started in the same way.

What one leaves is removed before the next begins: its chunks are deleted, its span log is read to the end. After a failure
vLLM is stopped, so that whatever it still does reaches no other experiment.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.experiment import correctness
from harness.experiment.conduct import conduct
from harness.experiment.hooks import Hooks
from harness.experiment.plan import Setting
from harness.experiment.record import NOTHING, Earlier
from harness.experiment.session import SPAN_LOG, OwnSession, Session, engine_settings
from harness.replay.in_process import EngineSettings
from harness.stores import Store


class SharedVllm:
    """At most one vLLM at a time, kept while it fits. ``folder`` gets its log and its span log. Use it inside one event loop."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder = folder
        self._store = store
        self._session: OwnSession | None = None
        self._settings: EngineSettings | None = None
        self.starting_s = 0.0
        """Seconds spent on starting, all starts together."""

    @contextlib.asynccontextmanager
    async def session(self, setting: Setting, dtype: str) -> AsyncIterator[Session]:
        """A session for one experiment. Raises SetupError or RunError if vLLM does not start."""
        settings = engine_settings(setting, dtype, self._folder / SPAN_LOG, save=False)
        if self._session is None or settings != self._settings:
            self.close()
            begun = time.monotonic()
            self._session = OwnSession.start(settings, self._store, self._folder, setting.experiment.chunk_tokens)
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


async def measure_sharing(
    setting: Setting,
    folder: Path,
    command: str,
    hooks: Hooks,
    host: SharedVllm,
    earlier: Earlier = NOTHING,
    proof: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """As ``conduct.measure``, in the vLLM that ``host`` has or starts. ``proof``: what an earlier correctness pass of the
    experiment found. Returns run.json; raises TtftError."""
    meta = await conduct(setting, folder, command, hooks, partial(host.session, setting), earlier, proof)
    if meta["void_runs"]:
        host.close()  # whatever went wrong must not reach the next experiment
    return meta


async def prove_sharing(setting: Setting, namespace: str, host: SharedVllm) -> dict[str, Any] | None:
    """The correctness pass of an experiment by itself, in float32; None if it has none. Raises TtftError.

    If timed runs are not in float32, a group of experiments passes it in one start, and is timed in another.
    """
    chosen = correctness.choose(setting.data.prompts, setting.hits, setting.experiment.correctness_prompts)
    if not chosen:
        return None
    apart = replace(setting, experiment=setting.experiment.model_copy(update={"keep_store": False}))
    async with host.session(apart, "float32") as session:
        return await session.prove(setting, chosen, namespace)
