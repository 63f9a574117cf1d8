"""MLflow: the measurement as one run of an experiment, with its settings as parameters and its report as an artifact."""

import contextlib
import importlib
import os
import re
from typing import Any

from harness.core.errors import RunError, SetupError
from harness.core.text import redact, shortened
from harness.reporting.exports.numbers import facts, numbers
from harness.reporting.summary import Summary

ARTIFACTS = ("report.md", "summary.csv")
"""Files of the measurement's folder that go along, if they are there."""
FEW_RETRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""MLflow's defaults would try a server that is not there for minutes."""


def log_mlflow(summary: Summary, address: str, name: str) -> str:
    """Log into the experiment ``name`` of the tracking store at ``address`` (a server's URL, sqlite:, or a folder).

    Raises SetupError without the package, RunError if the store does not take it.
    """
    for variable, value in FEW_RETRIES.items():
        os.environ.setdefault(variable, value)
    try:
        mlflow: Any = importlib.import_module("mlflow")
    except ModuleNotFoundError:
        raise SetupError("--to mlflow needs the package mlflow; install it: pip install 'ttft[mlflow]'") from None
    told = facts(summary)
    try:
        client = mlflow.MlflowClient(tracking_uri=address)
        found = client.get_experiment_by_name(name)
        experiment = found.experiment_id if found is not None else client.create_experiment(name)
        run = client.create_run(experiment, run_name=told["measurement"]).info.run_id
        entities: Any = importlib.import_module("mlflow.entities")
        metrics = [entities.Metric(_allowed(one.key), one.value, _now_ms(run, client), 0) for one in numbers(summary)]
        params = [entities.Param(key, shortened(value, 500)) for key, value in told.items()]
        client.log_batch(run, metrics=metrics, params=params)
        for file in (summary.evidence.run.path / name for name in ARTIFACTS):
            with contextlib.suppress(FileNotFoundError):
                client.log_artifact(run, str(file))
        client.set_terminated(run, "FINISHED" if told["status"] == "complete" else "FAILED")
    except (mlflow.exceptions.MlflowException, OSError, ValueError) as error:
        why = shortened(str(error).splitlines()[0] if str(error) else type(error).__name__, 300)
        raise RunError(f"MLflow at {redact(address)} took nothing: {why}; check the address") from None
    return f"Logged to {redact(address)}, experiment {name}, run {run}"


def _now_ms(run: str, client: Any) -> int:
    return int(client.get_run(run).info.start_time)


def _allowed(key: str) -> str:
    """MLflow takes letters, digits, ``_-. :/`` in a metric's name; an ``=`` becomes a ``:``."""
    return re.sub(r"[^\w\-. :/]", "_", key.replace("=", ":"))[:250]
