"""Prometheus: a file for node_exporter's textfile collector, or a push to a Pushgateway."""

from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, push_to_gateway, write_to_textfile

from harness.core.errors import ResultsError, RunError
from harness.core.text import redact, without_secrets
from harness.reporting.exports.numbers import facts, numbers
from harness.reporting.summary import Summary

TIMEOUT_S = 10.0


def registry(summary: Summary) -> CollectorRegistry:
    """All numbers as gauges, and the facts as labels of ``ttft_measurement_info``."""
    found = CollectorRegistry()
    told = facts(summary)
    Gauge("ttft_measurement_info", "What was measured", list(told), registry=found).labels(**told).set(1)
    gauges: dict[str, Gauge] = {}
    for one in numbers(summary):
        gauge = gauges.get(one.name) or Gauge(one.name, one.help, list(one.labels), registry=found)
        gauges[one.name] = gauge
        (gauge.labels(**one.labels) if one.labels else gauge).set(one.value)
    return found


def write_textfile(summary: Summary, folder: Path) -> list[Path]:
    """``ttft.prom``, put in place as a whole. Raises ResultsError if it cannot be written."""
    file = folder / "ttft.prom"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(file), registry(summary))
    except OSError as error:
        raise ResultsError(f"{file} cannot be written: {error.strerror or error}; give another folder with --out") from error
    return [file]


def push(summary: Summary, address: str, name: str) -> str:
    """Replace what the Pushgateway has of the job ``name``. Raises RunError if it does not take it."""
    try:
        push_to_gateway(address, job=name, registry=registry(summary), timeout=TIMEOUT_S)
    except (OSError, ValueError) as error:  # urllib's errors are OSErrors
        why = without_secrets(error)
        raise RunError(f"the Pushgateway at {redact(address)} took nothing: {why}; check the address") from None
    return f"Pushed to {redact(address)} as job {name}"
