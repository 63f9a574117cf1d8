"""Threads do not survive a fork: what an engine or the saver of a connector is given there is refused, not waited for."""

import subprocess
import sys

from harness.testing.engine_loads import engine_specs

USED = """
import os, signal, sys
from harness.connector.saving import Saver
from harness.connector.step import Save
from harness.core.errors import SetupError
from harness.engines.base import BetweenSteps
from harness.stores import open_store
from harness.testing.engine_loads import BLOCKS, KEYS, SHAPE, EngineLoads, LoadRequest, whole_objects
url, *specs = sys.argv[1:]
request = LoadRequest("load", KEYS, BLOCKS)

def begin(engine):
    between = isinstance(engine, BetweenSteps)
    (engine.begin_between if between else engine.begin_load)([request])
    for layer in range(SHAPE.layers):
        engine.wait_layer(layer)
    engine.end_load()

def outcome(use):
    try:
        use()
    except SetupError as error:
        return str(error)
    return "used"

with open_store(url) as store:
    store.write_many(whole_objects())
    engines = {spec: EngineLoads(spec, store) for spec in specs}
    for loads in engines.values():
        assert set(loads.load().values()) == {"right"}
    saver = Saver(store, SHAPE.build(), 0, 1, print, threads=1)
    if os.fork() == 0:
        signal.alarm(30)  # of the child, which would wait for ever
        for spec, loads in engines.items():
            print(spec, outcome(lambda: begin(loads._patient)), sep="\\t", flush=True)
        print("saver", outcome(lambda: saver.save([Save("load", KEYS[0], BLOCKS[:2])])), sep="\\t", flush=True)
        os._exit(0)
    _, status = os.wait()
    assert status == 0, status
    for loads in engines.values():
        assert set(loads.load().values()) == {"right"}
        loads.close()
    saver.close()
"""


def test_in_a_fork_it_is_refused_in_one_sentence_and_the_parent_goes_on(tmp_path: object) -> None:
    specs = [*engine_specs(), "chunkwise:pool=2"]
    command = [sys.executable, "-c", USED, f"file://{tmp_path}/kv", *specs]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    said = dict(line.split("\t") for line in done.stdout.splitlines())
    assert list(said) == [*specs, "saver"]
    for name, text in said.items():
        what = "a connector" if name == "saver" else "an engine"
        assert text.startswith(f"this process was forked from one that had used {what}, "), (name, text)
        assert "let processes be spawned" in text
