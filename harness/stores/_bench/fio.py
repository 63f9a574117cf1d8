"""fio beside a store of files: what the file system gives whoever asks for blocks of the size of an object."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.errors import StoreUnavailable
from harness.stores._bench.callers import Callers, Timing

RUNTIME_MS = 300
_TIMEOUT_S = 60
_PIECE = 8 << 20


def fio_program() -> str | None:
    """Where fio is installed, or None."""
    return shutil.which("fio")


class FioLimit:
    """Random reads of one file of ``total`` bytes below ``root``, through the page cache or past it. Close it."""

    name = "fio"

    def __init__(self, program: str, root: Path, total: int, direct: bool) -> None:
        """Write the file: what was never written would be read faster. Raises StoreUnavailable."""
        self._program = program
        self._direct = direct
        self._total = total
        self._folder = tempfile.TemporaryDirectory(prefix=".ttft-fio-", dir=root)
        try:
            self._file = Path(self._folder.name) / "data"
            data = np.random.default_rng(0).bytes(_PIECE)
            with self._file.open("wb") as file:
                for begin in range(0, total, _PIECE):
                    file.write(data[: total - begin])
        except OSError as error:
            self.close()
            raise StoreUnavailable(f"cannot write {total:,} bytes for fio to {root}: {error.strerror}; make room") from error
        except KeyboardInterrupt:
            self.close()
            raise

    def measure(self, callers: Callers, size: int, streams: int, places: list[memoryview]) -> Timing:
        """As Limit; fio fills a buffer of its own. What it reads in RUNTIME_MS is scaled to the number of ``places``."""
        words = [
            self._program, "--name=limit", f"--filename={self._file}", "--rw=randread", f"--bs={size}",
            f"--direct={self._direct:d}", f"--size={self._total // size * size}", "--ioengine=psync", "--invalidate=0",
            "--thread", f"--numjobs={streams}", "--group_reporting", "--time_based", f"--runtime={RUNTIME_MS}ms",
            "--output-format=json",
        ]  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise StoreUnavailable(f"fio ended with exit status {done.returncode}: {last}; --no-limit leaves it out")
        return timing_of(json.loads(done.stdout), len(places) * size)

    def close(self) -> None:
        """Delete the file."""
        self._folder.cleanup()


def timing_of(told: Any, wanted: int) -> Timing:
    """What fio tells as JSON, as the time for ``wanted`` bytes. Latencies are in nanoseconds, from a call to its return."""
    read = told["jobs"][0]["read"]
    return Timing(wanted / read["bw_bytes"], read["lat_ns"]["mean"] / 1e9)
