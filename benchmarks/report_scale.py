"""Time, memory and file size of the report of a run of 10,000 requests with as many spans as real runs have; then the time
to check and read a requests.csv of a million rows, and to check it before more is appended to it.

python benchmarks/report_scale.py [REQUESTS [ROWS]]
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from harness import report
from harness.results import RunWriter, load
from harness.testing.runs import write_synthetic_run

ARMS = ("chunkwise:pool=0", "chunkwise:pool=8", "layerwise:depth=4", "recompute", "floor")
ROUNDS = 10
CHUNKS = 12
"""A layerwise arm fetches each layer of each chunk; the made-up runs have one span a layer."""


def main(requests: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = write_synthetic_run(Path(folder), ARMS, rounds=ROUNDS, prompts=max(requests // (ROUNDS * len(ARMS)), 1))
        spans = _dense(run / "spans.jsonl")
        begin, busy = time.perf_counter(), time.process_time()
        files = report.of(load(run)).write()
        took, busy = time.perf_counter() - begin, time.process_time() - busy
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        size = (run / "report.html").stat().st_size / 1e6
        print(f"{requests:,} requests, {spans:,} spans: {took:.1f} s ({busy:.1f} s of CPU), peak {peak:,.0f} MiB")
        print(f"report.html {size:.2f} MB, {len(files)} files")


def rows(count: int) -> None:
    """``count`` rows: those of a made-up run, again and again. The arm has a comma, so every row has quotes."""
    with tempfile.TemporaryDirectory() as folder:
        run = write_synthetic_run(Path(folder), ("chunkwise:pool=8,retries=2",), rounds=1, prompts=1000, spans=False)
        (run / "run.json").write_text('{"schema": "2.0"}')
        file = run / "requests.csv"
        header, *lines = file.read_text(encoding="utf-8").splitlines()
        made = (f"{number // 1000},{number // 1000},{lines[number % 1000].split(',', 2)[2]}\n" for number in range(count))
        with file.open("w", encoding="utf-8") as out:
            out.write(header + "\n")
            out.writelines(made)
        begin = time.perf_counter()
        read = len(load(run).requests)
        loaded = time.perf_counter() - begin
        begin = time.perf_counter()
        RunWriter(run).close()
        opened = time.perf_counter() - begin
        size = file.stat().st_size / 1e6
        print(f"{read:,} rows ({size:.0f} MB): read in {loaded:.1f} s, opened to append in {opened:.1f} s")


def _dense(file: Path) -> int:
    """Write each layer's fetch CHUNKS times, one after the other; the number of spans then."""
    dense = file.with_suffix(".dense")
    count = 0
    with file.open(encoding="utf-8") as lines, dense.open("w", encoding="utf-8") as out:
        for line in lines:
            span = json.loads(line)
            parts = CHUNKS if span["kind"] == "fetch" and span["layer"] >= 0 else 1
            step = (span["end_s"] - span["start_s"]) / parts
            for part in range(parts):
                begin = span["start_s"] + part * step
                out.write(json.dumps(span | {"start_s": begin, "end_s": begin + step}) + "\n")
            count += parts
    dense.replace(file)
    return count


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
    rows(int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000)
