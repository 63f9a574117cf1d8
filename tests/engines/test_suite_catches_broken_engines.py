"""The conformance suite can fail: one right engine passes it whole, each broken one fails where it should."""

import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

BROKEN: Mapping[str, set[str]] = {
    "SkipsALayer": {"each_layer_is_in_place_after_its_wait", "end_waits_for_what_nobody_waited_for"},
    "IgnoresFailures": {"a_chunk_that_cannot_be_had_is_named", "all_chunks_are_missing"},
    "FailsWholeRequests": {"a_chunk_that_cannot_be_had_is_named"},
    "FailsSkippedBlocks": {"skipped_blocks_do_not_fail"},
    "RemembersFailures": {"a_chunk_that_cannot_be_had_is_named", "failures_are_told_once"},
    "RaisesForMissingChunks": {"a_chunk_that_cannot_be_had_is_named", "all_chunks_are_missing"},
    "SwallowsCrashes": {"a_crash_in_the_store_does_not_hang_or_pass"},
    "WritesAnotherChunk": {"each_layer_is_in_place_after_its_wait", "steps_follow_one_another"},
    "TurnsBlocksRound": {"each_layer_is_in_place_after_its_wait", "a_chunk_may_serve_several_requests"},
    "WritesSkippedBlocks": {"skipped_blocks_stay"},
    "WritesBesides": {"each_layer_is_in_place_after_its_wait", "skipped_blocks_stay"},
    "BelievesEveryHeader": {"a_chunk_that_cannot_be_had_is_named"},
    "BelievesForeignHeaders": {"a_chunk_that_cannot_be_had_is_named"},
    "ComesLate": {"each_layer_is_in_place_after_its_wait", "skipped_blocks_stay"},
    "RecordsNothing": {"fetches_are_recorded"},
    "RecordsAlways": {"nothing_is_recorded_when_nobody_looks"},
    "ReleasesTwice": {"what_is_loaded_between_steps_is_in_place_in_the_step_that_it_joins"},
    "HidesFailures": {"what_fails_between_steps_is_named_once"},
    "TellsFailuresAgain": {"what_fails_between_steps_is_named_once"},
}
"""What at least has to fail, for each engine of broken_engines.py."""


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, set[str]]:
    """The tests that failed, by engine, without their parameters."""
    report = tmp_path_factory.mktemp("broken") / "report.xml"
    command = [sys.executable, "-m", "pytest", str(Path(__file__).with_name("broken_engines.py")), "-q", "--no-header", "--tb=no"]
    # One store will do; and the property would also fail, but shrinks its example for seconds before it does.
    options = ["-p", "no:cacheprovider", f"--junitxml={report}", "-k", "TestPlain or (mem and not any_batch)"]
    done = subprocess.run([*command, *options], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    found: dict[str, set[str]] = defaultdict(set)
    for case in ET.parse(report).iter("testcase"):
        engine = case.attrib["classname"].rpartition(".Test")[2]
        outcome = found[engine]
        assert case.find("error") is None, case.attrib["name"]
        if case.find("failure") is not None:
            outcome.add(case.attrib["name"].partition("[")[0].removeprefix("test_"))
    return found


def test_a_right_engine_of_somebody_else_passes(failed: Mapping[str, set[str]]) -> None:
    assert failed["Plain"] == set()


def test_every_broken_engine_is_expected_to_fail(failed: Mapping[str, set[str]]) -> None:
    assert set(failed) == {"Plain", *BROKEN}


@pytest.mark.parametrize("engine", sorted(BROKEN))
def test_a_broken_engine_is_caught(failed: Mapping[str, set[str]], engine: str) -> None:
    assert failed[engine] >= BROKEN[engine]
