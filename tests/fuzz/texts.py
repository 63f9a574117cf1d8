"""Parsers of what is typed or set: options, specs, URLs, experiments."""

from collections.abc import Callable, Sequence
from pathlib import Path

from checking import Parser

from harness.connector.settings import parse_arm, parse_settings
from harness.core.budget import parse_duration
from harness.core.options import parse_options, split_spec
from harness.core.text import markdown, printable, redact, without_secrets, wrapped
from harness.experiment.dotted import experiment_of
from harness.experiment.plan import parse_any
from harness.experiment.settings import given_settings, merge, read_experiment
from harness.experiment.sweep.axes import parse_axes
from harness.experiment.sweep.grid import grid_of
from harness.gate.judge import check_bounds, parse_margins
from harness.gate.limits import parse_bounds
from harness.replay.arrivals import parse_arrivals, times
from harness.replay.kv_shape import kv_shape
from harness.replay.target_url import check_url
from harness.reporting.forecast.curve import Curve
from harness.stats.serving import parse_slo
from harness.stores._bench.settings import parse_loops, parse_numbers, parse_sizes
from harness.stores.base import check_store
from harness.workloads import WORKLOADS


def typed(take: Callable[[str], object]) -> Callable[[bytes, Path], object]:
    """As the command line gets it: whatever is not UTF-8 comes as surrogates."""
    return lambda data, _: take(data.decode("utf-8", "surrogateescape"))


def seeds(*texts: str) -> tuple[bytes, ...]:
    return tuple(text.encode() for text in texts)


def _bounds(text: str) -> None:
    margins, limits = parse_bounds(text.split(" "))
    check_bounds(parse_margins(margins) if margins else {}, limits)


def _workload(text: str) -> None:
    name, options = split_spec(text)
    workload = WORKLOADS.get(name)
    parse_options(workload.Options, options, f"workload '{name}'")


def _settings(text: str) -> None:
    experiment_of({}, given_settings(text.split("\n")))


def _experiment(data: bytes, folder: Path) -> None:
    file = folder / "experiment.toml"
    file.write_bytes(data)
    experiment_of(read_experiment(str(file)))


def _grid(text: str) -> None:
    grid_of(merge({}), parse_axes(text.split("\n")))


def _builtin(text: str) -> None:
    kv_shape(f"builtin:{text.removeprefix('builtin:')}", "float32")  # another name would be looked for on the hub


def _arrivals(text: str) -> None:
    times(parse_arrivals(text), [0.0, 1.5, 2.0])


def _shown(text: str) -> None:
    """Not parsers, but they take the same texts and must never raise."""
    for show in (redact, without_secrets, printable, markdown):
        show(text)
    wrapped(printable(text), 26)


def _connector(text: str) -> None:
    parse_settings({"store": "mem://kv", "arms": text.split("\n"), "chunk_tokens": "16"})


STORES: Sequence[str] = (
    "file:///tmp/kv",
    "file://~/kv?direct=1&verify=0",
    "aiofile:///tmp/kv?threads=4",
    "mem://kv",
    "shaped+mem://kv?latency_ms=2",
    "shaped+redis://user:hunter2@host:6379/1?stream_mbps=100&total_mbps=300&jitter=0.1",
    "redis://host",
    "rediss://h:1?ca=/x.pem",
    "redis+cluster://h:7000?connections=4",
    "s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=us-east-1&retries=2",
    "mooncake://127.0.0.1:50051?metadata=http://user:hunter2@host:8080/metadata",
    "shaped+aiofile:///mnt/kv?slow_share=0.1",
    "redis+sentinel://user:hunter2@h:26379,g:1/mymaster/2?timeout_s=3",
    "redis+unix:///run/redis.sock?db=1",
    "sealed+file:///tmp/kv?seal=$HOME",
    "nixl:///tmp/kv",
    "gds:///tmp/kv",
)
SETTINGS = (
    "chunk_tokens=512",
    "workload.prefix=2048",
    "store.latency_ms=2",
    "model.layers=4",
    "vllm.max_num_seqs=4",
    "arrivals=poisson:rate=2",
    "arms=['floor', 'recompute']",
    "vllm={hf_token='hunter2', seed=1}",
    "pairs=8\nseed=3",
    "slo=ttft:300ms",
    "layout=layer",
    "store=redis://u:hunter2@h:1/0\nstore.timeout_s=3",
)
TOML = (
    'question = "which?"\nworkload = "shared_prefix:prefix=1024"\narms = ["chunkwise:pool=8", "layerwise:depth=4"]\npairs = 8\n',
    'store = "shaped+file:///tmp/kv?latency_ms=2"\nconcurrency = 2\nneighbours = 1\nkv_cache_gib = 0.5\nbounds = false\n',
    'model = "builtin:layers=4"\nvllm = {max_num_seqs = 4}\nvary = ["concurrency=1,2"]\nslo = "ttft:300ms"\ndtype = "float32"\n',
)
ARMS = ("chunkwise:pool=8,retries=2", "layerwise:depth=4,layers_per_fetch=2@again", "floor", "recompute", "chunkwise",
        "deferred:order=deadline,release=2", "hybrid:depth=2", "auto")  # fmt: skip
PEERS = (
    "lmcache:mode=layerwise",
    "offloading:cpu_gib=1,readers=4",
    "mooncake-store:protocol=tcp",
    "connector:MyConnector,module=a.b,path={folder}@x",
    "target:http://u:hunter2@h:1,expect_hit=none@y",
)
WORKLOAD = (
    "shared_prefix:prefix=2048,suffix=32,groups=2",
    "multi_turn:turns=3",
    "long_doc:document=4096",
    "mooncake:path=x.jsonl,scale=0.5",
    "azure:path=a.csv,min_input=2k,start_s=1,end_s=60",
    "jsonl:path=p.jsonl,tokenizer=bytes",
    "otel:path=x.jsonl,shared=16",
)

PARSERS = (
    Parser("a budget", typed(parse_duration), seeds("10m", "90s", "1h30m", "2.5m")),
    Parser("an arm", typed(parse_arm), seeds(*ARMS)),
    Parser("an arm or a peer", typed(parse_any), seeds(*ARMS, *PEERS)),
    Parser("a workload", typed(_workload), seeds(*WORKLOAD)),
    Parser(
        "arrivals",
        typed(_arrivals),
        seeds(
            "closed",
            "constant:rate=2",
            "poisson:rate=2,seed=1",
            "gamma:rate=2,burstiness=0.5",
            "ramp:first=1,last=4",
            "trace:speed=2",
        ),
    ),
    Parser("objectives", typed(parse_slo), seeds("ttft:300ms,tpot:60ms", "e2e:2s", "itl:1.5s")),
    Parser("margins and limits", typed(_bounds), seeds("p50:5% p95:10%", "p95:800ms", "mean:3% p50:1.5s", "p99.9:20%")),
    Parser("--set", typed(_settings), seeds(*SETTINGS)),
    Parser("an experiment", _experiment, seeds(*TOML)),
    Parser(
        "--vary",
        typed(_grid),
        seeds(
            "concurrency=1,2,4",
            "workload.prefix=512,1024\nchunkwise.pool=0,8",
            "store.latency_ms=1|2",
            "workload=shared_prefix:prefix=16,suffix=4|long_doc",
            "vllm.max_num_seqs=4,8",
        ),
    ),
    Parser("a store's URL", typed(check_store), seeds(*STORES)),
    Parser(
        "a target's URL",
        typed(check_url),
        seeds("http://127.0.0.1:8000", "https://host/v1", "http://u:hunter2@h:1", "http://[::1]:8000"),
    ),
    Parser(
        "options of the built-in model", typed(_builtin), seeds("layers=4,hidden=64", "heads=8,kv_heads=4,head_dim=32", "std=0.1")
    ),
    Parser("times by length", typed(lambda text: Curve.parse("--compute-ms", text)), seeds("30", "1024:30,16384:55", "0:1.5")),
    Parser("sizes", typed(lambda text: parse_sizes("--sizes", text)), seeds("64KiB,4MiB", "1,2B", "1GiB")),
    Parser("numbers", typed(lambda text: parse_numbers("--threads", text)), seeds("1,2,4", "1024")),
    Parser("event loops", typed(lambda text: parse_loops("--loops", text)), seeds("1x8,2x4")),
    Parser("the connector's settings", typed(_connector), seeds("\n".join(ARMS), *ARMS)),
    Parser("texts that are shown", typed(_shown), seeds(*STORES, *ARMS)),
)
