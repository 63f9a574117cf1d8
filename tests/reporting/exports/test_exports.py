"""Each destination gets the numbers of the report: files read back by the formats' own parsers, servers on the loopback."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness.core.errors import RunError, UsageError
from harness.reporting.exports import export, otel
from harness.reporting.exports.numbers import numbers
from harness.reporting.summary import Summary, summarise
from harness.results import load
from harness.results.evidence import gather
from harness.testing.runs import write_synthetic_run

ARMS = ["chunkwise:pool=0", "layerwise:depth=4", "floor"]


@dataclass
class Heard:
    """What a server was sent."""

    url: str = ""
    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    answer: int = 200


@pytest.fixture
def heard() -> Iterator[Heard]:
    """A server that takes everything."""
    found = Heard()

    class Handler(BaseHTTPRequestHandler):
        def _take(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found.requests.append((self.command, self.path, body))
            self.send_response(found.answer)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_PUT = do_POST = _take  # noqa: N815

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    write_synthetic_run(tmp_path / "run", arms=ARMS, rounds=8, prompts=12, mean_s={ARMS[0]: 0.5, ARMS[1]: 0.4, "floor": 0.1})
    return summarise(gather(load(tmp_path / "run")))


def samples(text: str) -> dict[tuple[str, str, str], float]:
    """By name, arm and statistic."""
    return {
        (one.name, one.labels.get("arm", ""), one.labels.get("statistic", "")): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def test_numbers_are_those_of_the_report_and_no_two_are_alike(summary: Summary) -> None:
    found = list(numbers(summary))
    assert len({one.key for one in found}) == len(found)
    layerwise = summary.arms[1]
    by_key = {one.key: one.value for one in found}
    assert by_key["ttft_seconds/layerwise:depth=4/p50"] == layerwise.ttft["p50"].value
    assert by_key["ttft_ratio_high/layerwise:depth=4/chunkwise:pool=0/p50"] == layerwise.ratios["p50"].high
    assert by_key["ttft_measurement_complete"] == 1


def test_a_prometheus_textfile(summary: Summary, tmp_path: Path) -> None:
    said = export(summary, "prometheus", tmp_path / "out", "ttft")
    file = tmp_path / "out" / "ttft.prom"
    assert str(file) in said
    found = samples(file.read_text("utf-8"))
    assert found["ttft_seconds", ARMS[1], "p50"] == pytest.approx(summary.arms[1].ttft["p50"].value)
    assert found["ttft_ratio_low", ARMS[1], "p50"] == pytest.approx(summary.arms[1].ratios["p50"].low)
    assert found["ttft_measurement_info", "", ""] == 1


def test_a_void_run_shows(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path / "run", arms=ARMS, rounds=8, prompts=12, mean_s=dict.fromkeys(ARMS, 0.4))
    meta = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    first = meta["runs"][0]
    meta |= {"status": "void", "void_runs": [{"run": first["run"], "arm": first["arm"], "reason": "hit 0 tokens"}]}
    (tmp_path / "run" / "run.json").write_text(json.dumps(meta), "utf-8")
    export(summarise(gather(load(tmp_path / "run"))), "prometheus", tmp_path, "ttft")
    found = samples((tmp_path / "ttft.prom").read_text("utf-8"))
    assert found["ttft_measurement_complete", "", ""] == 0
    assert found["ttft_runs_left_out", first["arm"], ""] == 1 and found["ttft_runs", first["arm"], ""] == 7


def test_a_pushgateway_gets_the_same(summary: Summary, heard: Heard, tmp_path: Path) -> None:
    said = export(summary, f"pushgateway:{heard.url}", tmp_path, "nightly")
    ((method, path, body),) = heard.requests
    assert (method, path) == ("PUT", "/metrics/job/nightly") and said == f"Pushed to {heard.url} as job nightly"
    export(summary, "prometheus", tmp_path, "ttft")
    assert samples(body.decode()) == samples((tmp_path / "ttft.prom").read_text("utf-8"))


def test_a_collector_gets_the_same_over_otlp(summary: Summary, heard: Heard, tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    service = pytest.importorskip("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2")
    said = export(summary, f"otel:{heard.url}/", tmp_path, "nightly")
    ((method, path, body),) = heard.requests
    assert (method, path) == ("POST", "/v1/metrics") and said.endswith("as service nightly")
    resource = service.ExportMetricsServiceRequest.FromString(body).resource_metrics[0]
    attributes = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert attributes["service.name"] == "nightly" and attributes["ttft.measurement"] == "synthetic"
    found = {}
    for metric in resource.scope_metrics[0].metrics:
        for point in metric.gauge.data_points:
            labels = {one.key: one.value.string_value for one in point.attributes}
            found[metric.name, tuple(sorted(labels.items()))] = point.as_double or float(point.as_int)
    assert found == {(one.name, tuple(sorted(one.labels.items()))): one.value for one in numbers(summary)}


def test_mlflow_gets_a_run(summary: Summary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    address = (tmp_path / "mlruns").as_uri()
    (tmp_path / "run" / "report.md").write_text("the report", "utf-8")
    said = export(summary, f"mlflow:{address}", tmp_path, "nightly")
    client = mlflow.MlflowClient(tracking_uri=address)
    (run,) = client.search_runs([client.get_experiment_by_name("nightly").experiment_id])
    assert run.info.run_id in said and run.info.status == "FINISHED"
    assert run.data.params["workload"] == summary.evidence.setting("workload")
    assert run.data.metrics["ttft_seconds/layerwise:depth:4/p50"] == summary.arms[1].ttft["p50"].value
    assert len(run.data.metrics) == len(list(numbers(summary)))
    assert [one.path for one in client.list_artifacts(run.info.run_id)] == ["report.md"]


def test_llm_d_gets_a_report_per_arm(summary: Summary, tmp_path: Path) -> None:
    export(summary, "llm-d", tmp_path / "out", "ttft")
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == [f"benchmark_report_v0.2,_{name}.yaml" for name in ("chunkwise-pool-0", "layerwise-depth-4")]
    report = json.loads((tmp_path / "out" / files[1]).read_text("utf-8"))
    assert (report["version"], sorted(report)) == ("0.2", ["results", "run", "scenario", "version"])
    aggregate = report["results"]["request_performance"]["aggregate"]
    ttft = aggregate["latency"]["time_to_first_token"]
    assert (ttft["units"], ttft["p50"]) == ("s", summary.arms[1].ttft["p50"].value)
    assert aggregate["requests"]["total"] == 96 and aggregate["requests"]["failures"] == 0
    assert aggregate["throughput"]["request_rate"]["units"] == "queries/s"
    (component,) = report["scenario"]["stack"]
    assert (component["standardized"]["kind"], component["standardized"]["arm"]) == ("generic", ARMS[1])
    assert report["scenario"]["load"]["standardized"]["source"] == "random"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the SDK leaves a refused answer's socket open
@pytest.mark.parametrize("place", ["pushgateway", "otel", "mlflow"])
@pytest.mark.parametrize("refuses", [True, False])
def test_what_does_not_arrive_is_one_sentence(
    summary: Summary, heard: Heard, tmp_path: Path, place: str, refuses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otel, "TIMEOUT_S", 0.5)
    pytest.importorskip({"otel": "opentelemetry.exporter.otlp.proto.http", "mlflow": "mlflow"}.get(place, "prometheus_client"))
    heard.answer = 400
    address = heard.url if refuses else "http://127.0.0.1:9"
    if place == "mlflow" and refuses:
        return  # it takes any answer of a server that is none for a text
    with pytest.raises(RunError, match=f"at {address}.* took nothing") as raised:
        export(summary, f"{place}:{address}", tmp_path, "ttft")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("promtheus", "unknown destination 'promtheus' .did you mean 'prometheus'"),
        ("mlflow", "--to mlflow needs an address"),
        ("prometheus:file.prom", "give their folder with --out"),
    ],
)
def test_a_wrong_destination_is_named(summary: Summary, tmp_path: Path, to: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        export(summary, to, tmp_path, "ttft")
