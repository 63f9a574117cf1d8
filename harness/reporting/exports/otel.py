"""OpenTelemetry: the numbers as gauges, sent once over OTLP/HTTP."""

import importlib
import logging
from typing import Any

from harness.core.errors import RunError, SetupError
from harness.core.text import redact
from harness.reporting.exports.numbers import facts, numbers
from harness.reporting.summary import Summary

METRICS_PATH = "/v1/metrics"
"""Of the OTLP specification; it is put behind an address that has no path."""
TIMEOUT_S = 10


def send_otel(summary: Summary, address: str, name: str) -> str:
    """Send one sample of each number, with the facts as attributes of the service ``name``.

    Headers come from OTEL_EXPORTER_OTLP_HEADERS, as the SDK reads it. Raises SetupError without the packages, and RunError if
    the collector does not take them.
    """
    try:
        sdk: Any = importlib.import_module("opentelemetry.sdk.metrics")
        reading: Any = importlib.import_module("opentelemetry.sdk.metrics.export")
        resources: Any = importlib.import_module("opentelemetry.sdk.resources")
        http: Any = importlib.import_module("opentelemetry.exporter.otlp.proto.http.metric_exporter")
    except ModuleNotFoundError as error:
        raise SetupError(f"--to otel needs the package {error.name}; install it: pip install 'ttft[otel]'") from None
    endpoint = address.rstrip("/")
    endpoint += "" if "/" in endpoint.partition("://")[2] else METRICS_PATH
    # It would log each attempt with a traceback; what it returns is enough.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    reader = reading.InMemoryMetricReader()
    about = {f"ttft.{key}": value for key, value in facts(summary).items()}
    resource = resources.Resource.create({"service.name": name, **about})
    provider = sdk.MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    meter, gauges = provider.get_meter("ttft"), {}
    for one in numbers(summary):
        if one.name not in gauges:
            gauges[one.name] = meter.create_gauge(one.name, unit=one.unit, description=one.help)
        gauges[one.name].set(one.value, dict(one.labels))
    exporter = http.OTLPMetricExporter(endpoint=endpoint, timeout=TIMEOUT_S)
    try:
        result = exporter.export(reader.get_metrics_data(), timeout_millis=TIMEOUT_S * 1e3)
    except (OSError, ValueError) as error:
        raise RunError(f"the collector at {redact(endpoint)} took nothing: {error}; check the address") from None
    finally:
        exporter.shutdown()
        provider.shutdown()
    if result is not reading.MetricExportResult.SUCCESS:
        raise RunError(
            f"the collector at {redact(endpoint)} took nothing; check the address, and that it listens to OTLP over HTTP"
        )
    return f"Sent to {redact(endpoint)} as service {name}"
