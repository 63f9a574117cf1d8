"""A run's tables as Parquet, beside the CSV: the same columns and dtypes, faster to read and typed without a schema."""

from pathlib import Path

from harness.errors import ResultsError, SetupError
from harness.results.run import Run

NAMES = ("requests", "runs", "spans")


def write_parquet(run: Run, folder: Path) -> list[Path]:
    """Write requests, runs and spans, void ones included, as ``<name>.parquet`` into ``folder``; returns the files.

    Each file takes the old one's place at once. Raises SetupError without pyarrow, ResultsError where it cannot write.
    """
    try:
        import pyarrow  # noqa: F401  pandas would say its absence at length
    except ImportError as error:
        raise SetupError("Parquet needs pyarrow: pip install 'ttft[parquet]', or read requests.csv and spans.jsonl") from error
    files = [folder / f"{name}.parquet" for name in NAMES]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, frame in zip(files, (run.requests, run.runs, run.spans), strict=True):
            temporary = file.with_name(f".{file.name}.tmp")
            frame.to_parquet(temporary, engine="pyarrow", index=False)
            temporary.replace(file)
    except OSError as error:
        raise ResultsError(
            f"Parquet cannot be written to {folder}: {error.strerror or error}; make room or give rights"
        ) from error
    return files
