"""run.json as it is before the first request."""

from typing import Any

from harness.experiment import environment
from harness.experiment.recorded import now
from harness.experiment.setting import Setting
from harness.stores.base import redact


def declared(setting: Setting, name: str, command: str) -> dict[str, Any]:
    """Everything that is known before the first request; ``name`` is the run's, ``command`` the user's."""
    experiment = setting.experiment
    config = experiment.model_dump()
    config |= {
        "store": redact(experiment.store),
        "dtype": setting.dtype,
        "model": setting.model.name,
        "max_model_len": setting.max_model_len,
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
        "versions": environment.versions(arm.engine.package for arm in setting.peers),
        "machine": environment.machine(),
        "binding": environment.binding(),
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
