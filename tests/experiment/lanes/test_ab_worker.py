"""The worker: the ordinary experiment, over an engine that computes nothing, in turns that somebody else gives."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from fake_engine import CHUNK, CHUNKWISE, LAYERWISE, MODEL, SHORT, Lab, lab

from harness.core.errors import RunError, UsageError
from harness.experiment.lanes.protocol import PROTOCOL, decode, encode
from harness.experiment.lanes.worker import Channel, own_modules, serve

__all__ = ["lab"]


ANSWERS = {"turn": encode("go"), "over": encode("stop")}


@dataclass
class Driver:
    """The other end of the pipes, in a thread: answers every turn, and notes what it was told."""

    lab: Lab
    channel: Channel
    to_worker: int
    from_worker: int
    order: dict[str, Any]
    heard: list[dict[str, Any]] = field(default_factory=list)
    rows_at_turn: list[int] = field(default_factory=list)
    answer: Callable[[dict[str, Any]], bytes | None] = lambda message: ANSWERS.get(message["kind"])

    def serve(self) -> None:
        os.write(self.to_worker, encode("start", **self.order))
        thread = threading.Thread(target=self._listen, daemon=True)
        thread.start()
        try:
            serve(self.channel)
        finally:
            self.channel.say("end of the test")
            thread.join(10)

    def _listen(self) -> None:
        with os.fdopen(os.dup(self.from_worker), "rb") as pipe:
            for line in pipe:
                message = decode(line)
                if message["kind"] == "end of the test":
                    return
                self.heard.append(message)
                if message["kind"] in ("turn", "over"):
                    self.rows_at_turn.append(len((self.lab.folder / "requests.csv").read_text().splitlines()) - 1)
                answer = self.answer(message)
                if answer:
                    os.write(self.to_worker, answer)

    def kinds(self) -> list[str]:
        return [message["kind"] for message in self.heard]


@pytest.fixture
def driver(lab: Lab) -> Iterator[Driver]:
    heard, to_worker = os.pipe()
    from_worker, said = os.pipe()
    channel = Channel(os.fdopen(heard, "rb", buffering=0), os.fdopen(said, "wb", buffering=0))
    settings: dict[str, Any] = {
        "workload": SHORT,
        "store": lab.store_url,
        "arms": [CHUNKWISE, LAYERWISE],
        "model": MODEL,
        "dtype": "float32",
    }
    settings |= {"pairs": 2, "chunk_tokens": CHUNK, "correctness_prompts": 1, "bounds": False}
    order = {"protocol": PROTOCOL, "experiment": settings, "folder": str(lab.folder), "command": "ttft ab"}
    yield Driver(lab, channel, to_worker, from_worker, order)
    channel.close()
    for descriptor in (to_worker, from_worker):
        os.close(descriptor)


def test_every_run_waits_for_its_turn_and_is_on_disk_before_the_next(driver: Driver) -> None:
    driver.serve()
    turns = [(message["run"], message["round"], message["arm"]) for message in driver.heard if message["kind"] == "turn"]
    assert turns == [(0, 0, CHUNKWISE), (1, 0, LAYERWISE), (2, 1, LAYERWISE), (3, 1, CHUNKWISE)]
    assert driver.rows_at_turn == [0, 4, 8, 12, 16]
    kinds = driver.kinds()
    assert kinds[0] == "hello"
    assert kinds.index("expect") < kinds.index("turn")
    assert kinds[-1] == "over"
    run = driver.lab.run()
    assert (run.meta["status"], run.void_runs) == ("complete", {})
    assert driver.lab.left() == set()


def test_vllm_stays_up_until_it_is_told_to_stop(driver: Driver) -> None:
    up: list[bool] = []
    answer = driver.answer

    def note(message: dict[str, Any]) -> bytes | None:
        if message["kind"] == "over":
            up.append(not driver.lab.vllm.engines[-1].closed)
        return answer(message)

    driver.answer = note
    driver.serve()
    assert up == [True]
    assert driver.lab.vllm.engines[-1].closed


def test_a_driver_that_is_gone_ends_the_run_and_cleans_the_store(driver: Driver) -> None:
    def leave(message: dict[str, Any]) -> bytes | None:
        if message["kind"] == "turn" and message["run"] == 1:
            os.dup2(2, driver.to_worker)  # closes the only writing end
        return encode("go") if message["kind"] == "turn" and message["run"] == 0 else None

    driver.answer = leave
    with pytest.raises(RunError, match="the process that gives out the turns is gone"):
        driver.serve()
    run = driver.lab.run()
    assert run.meta["status"] == "partial"
    assert len(run.counted) == 4
    assert driver.lab.left() == set()


def test_another_protocol_is_refused_before_anything_starts(driver: Driver) -> None:
    driver.order["protocol"] = PROTOCOL + 1
    with pytest.raises(RunError, match=f"takes turns by protocol {PROTOCOL}, not by {PROTOCOL + 1}"):
        driver.serve()
    assert driver.kinds() == ["hello"]
    assert driver.lab.vllm.engines == []


def test_a_setting_that_this_version_does_not_know_is_named(driver: Driver) -> None:
    driver.order["experiment"]["colour"] = "blue"
    with pytest.raises(UsageError, match="unknown option of the experiment 'colour'"):
        driver.serve()


def test_a_word_out_of_turn_is_refused(driver: Driver) -> None:
    driver.answer = lambda message: encode("stop") if message["kind"] == "turn" else None
    with pytest.raises(RunError, match="the driver said 'stop', but this lane waits for 'go'"):
        driver.serve()


def test_modules_of_this_environment_are_counted() -> None:
    assert own_modules() > 0  # pytest, if nothing else


@pytest.mark.parametrize("line", [b"INFO loading\n", b"[1]\n", b'{"no": "kind"}\n', b"\xff\n"])
def test_what_is_no_message_is_said_to_be_none(line: bytes) -> None:
    with pytest.raises(RunError, match="is no message"):
        decode(line)


def test_messages_come_back_as_they_were() -> None:
    line = encode("turn", run=1, arm="a:b=c@d\n")
    assert line.count(b"\n") == 1
    assert decode(line) == {"kind": "turn", "run": 1, "arm": "a:b=c@d\n"}
    assert json.loads(line)["kind"] == "turn"
