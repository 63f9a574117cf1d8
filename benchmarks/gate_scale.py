"""How long a verdict over a million request rows takes, and how much memory: from the files on disk to the words.

python benchmarks/gate_scale.py [--rows 1000000] [--pairs 50]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.gate import judge_run
from harness.results import load
from harness.testing.frames import make_frame


def write(folder: Path, rows: int, pairs: int) -> None:
    frame = make_frame({"chunkwise": 1.0, "layerwise": 1.0}, pairs=pairs, prompts=rows // (2 * pairs))
    frame.to_csv(folder / "requests.csv", index=False)
    (folder / "run.json").write_text(json.dumps({"schema": "1.0"}))
    (folder / "spans.jsonl").touch()


def judge_folder(folder: Path) -> None:
    """In a process of its own, so that its peak memory is the verdict's alone."""
    start = time.perf_counter()
    run = load(folder)
    loaded = time.perf_counter()
    verdict = judge_run(run, "layerwise", "chunkwise", {"p50": 0.05, "p95": 0.10})
    judged = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{len(run.requests):,} rows: read in {loaded - start:.1f} s, judged in {judged - loaded:.1f} s, peak {peak:.2f} GiB")
    print(verdict.sentence)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--folder", type=Path, help="judge this folder instead of making one up")
    arguments = parser.parse_args()
    if arguments.folder:
        judge_folder(arguments.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), arguments.rows, arguments.pairs)
        subprocess.run([sys.executable, __file__, "--folder", folder], check=True)


if __name__ == "__main__":
    main()
