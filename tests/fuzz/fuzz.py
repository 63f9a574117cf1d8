"""``make fuzz``: wrong inputs for every parser, until the time or their number is over; what is found is printed and kept.

Each parser has the same time of the processor: a measurement's folder takes ten milliseconds to read, a duration one
microsecond. The same seed gives every parser the same inputs. Exit code 1 if anything was found.
"""

import argparse
import faulthandler
import hashlib
import logging
import random
import resource
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import answers
import stored
import texts
from checking import SECONDS, Parser, wrong
from mutation import mutated

PARSERS: tuple[Parser, ...] = (*texts.PARSERS, *answers.PARSERS, *stored.PARSERS)
HANGS_AFTER_S = 120
"""What no signal ends, because it never comes back from C, ends the process and says where."""
ADDRESS_SPACE = 8 << 30


@dataclass
class Tally:
    """How far one parser is."""

    parser: Parser
    inputs: int = 0
    seconds: float = 0.0
    findings: dict[str, bytes] = field(default_factory=dict)


def run(
    parsers: list[Parser], seed: int, seconds: float, inputs: int, found_in: Path, batch: int = 50, limit_s: float = SECONDS
) -> list[Tally]:
    """Feed them until ``seconds`` or ``inputs`` in all are over, the one that has had the least time first, in batches.

    ``limit_s``: what one input may take.
    """
    tallies, end, total = [Tally(parser) for parser in parsers], time.monotonic() + seconds, 0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as home:
        folders = {parser.name: Path(home) / str(place) for place, parser in enumerate(parsers)}
        for folder in folders.values():
            folder.mkdir()
        while time.monotonic() < end and total < inputs:
            tally = min(tallies, key=lambda one: one.seconds / one.parser.weight)
            total += _turn(tally, seed, folders[tally.parser.name], found_in, min(inputs - total, batch), limit_s)
    return tallies


def _turn(tally: Tally, seed: int, folder: Path, found_in: Path, count: int, limit_s: float) -> int:
    """Some inputs; returns how many."""
    begin, parser = time.process_time(), tally.parser
    faulthandler.dump_traceback_later(HANGS_AFTER_S, exit=True)
    for _ in range(count):
        rng = random.Random(f"{seed}/{parser.name}/{tally.inputs}")
        data = mutated(rng, parser.seeds, parser.packed)
        (folder / ".input").write_bytes(data)  # what hangs or kills the process is found here
        problem = wrong(parser, data, folder, limit_s)
        tally.inputs += 1
        kind = problem.partition(": ")[0]
        if problem and kind not in tally.findings:
            tally.findings[kind] = data
            found_in.mkdir(parents=True, exist_ok=True)
            file = found_in / f"{parser.name.replace('/', '-').replace(' ', '-')}.{hashlib.sha256(data).hexdigest()[:8]}"
            file.write_bytes(data)
            print(f"FOUND {parser.name}: {problem}\n      {file} ({len(data):,} bytes)", flush=True)
    faulthandler.cancel_dump_traceback_later()
    tally.seconds += time.process_time() - begin
    return count


def table(tallies: list[Tally]) -> str:
    """Markdown for the docs."""
    rows = [f"| {one.parser.name} | {one.inputs:,} | {len(one.findings)} |" for one in tallies]
    total, findings = sum(one.inputs for one in tallies), sum(len(one.findings) for one in tallies)
    return "\n".join(["| parser | inputs | findings |", "| --- | --- | --- |", *rows, f"| all | {total:,} | {findings} |"])


def main() -> int:
    """The command."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--seconds", type=float, default=60.0, help="time for all of it (default: %(default)s)")
    options.add_argument("--inputs", type=int, default=10**9, help="inputs in all (default: as many as the time allows)")
    options.add_argument("--seed", type=int, default=0, help="another seed gives other inputs (default: %(default)s)")
    options.add_argument("--only", default="", help="parsers whose name has this in it (default: all)")
    options.add_argument("--found", type=Path, default=Path("fuzz-found"), help="folder for what is found (default: %(default)s)")
    given = options.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    parsers = [parser for parser in PARSERS if given.only in parser.name]
    tallies = run(parsers, given.seed, given.seconds, given.inputs, given.found)
    print(table(tallies))
    return int(any(one.findings for one in tallies))


if __name__ == "__main__":
    sys.exit(main())
