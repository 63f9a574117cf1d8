"""Stands in for a worker: speaks its protocol and writes its files, but measures nothing. Standard library only, to start fast.

python scripted_worker.py '{"ttft_s": 0.02, ...}'        the script: see DEFAULTS
"""

import csv
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

DEFAULTS: dict[str, Any] = {
    "ttft_s": 0.02,
    "slow": "",  # an arm that takes half as long again
    "tokens": "aa",  # the digest of every output
    "prompts": 12,
    "protocol": 2,
    "harness": "/somewhere/harness/__init__.py",
    "loaded": 3,
    "settings": {},  # of run.json's config, instead of those that were asked for
    "order": 1,  # -1: the arms of a round the other way round
    "fail": "",  # the sentence it fails with instead of its first turn
    "at": -1,  # in this run ...
    "do": "",  # ... it will: crash, be killed, nap, hang, hang hard (deaf to SIGINT), lose rows, babble
}
SHARED = {
    "versions": {"python": "3"},
    "machine": {"cores": 2},
    "binding": {},
    "geometry": {},
    "correctness": {"status": "passed"},
}
HEADER = [
    "run", "round", "position", "arm", "cache_state", "page_cache", "prompt", "prompt_tokens", "expected_hit_tokens",
    "hit_tokens", "planned_s", "sent_s", "ttft_s", "output_digest", "kv_digest", "void", "error", "a_column_of_another_version",
]  # fmt: skip


def main() -> int:
    script = {**DEFAULTS, **json.loads(sys.argv[1])}
    order = hear()
    folder, asked = Path(order["folder"]), order["experiment"]
    say("hello", protocol=script["protocol"], harness=script["harness"])
    say("stage", text="starting")
    if script["fail"]:
        say("failed", error=script["fail"], **({"exit_code": script["code"]} if "code" in script else {}))
        return int(script.get("code", 2))
    folder.mkdir(parents=True, exist_ok=True)
    arms, pairs = asked["arms"], asked.get("pairs", 6)
    config = {"arms": arms, "pairs": pairs, "store": asked.get("store"), **script["settings"]}
    entries = [{"name": arm, "engine": arm.partition(":")[0], "options": {}, "loads_kv": True} for arm in arms]
    meta = {"schema": "1.0", "config": config, "arms": entries, "data": {"fingerprint": "f"}, **SHARED}
    (folder / "run.json").write_text(json.dumps(meta))
    say("expect", requests=pairs * len(arms) * script["prompts"])
    plan = [(pair, arm) for pair in range(pairs) for arm in arms[:: script["order"] if pair % 2 == 0 else -script["order"]]]
    with (folder / "requests.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, HEADER, restval="")
        writer.writeheader()
        for run, (pair, arm) in enumerate(plan):
            file.flush()
            say("turn", run=run, round=pair, arm=arm, loaded=script["loaded"])
            expect("go")
            with (folder / "turns.txt").open("a") as turns:
                turns.write(f"{time.monotonic_ns()} {run}\n")
            if run == script["at"]:
                misbehave(script["do"], folder)
            if not (run == script["at"] and script["do"] == "lose rows"):
                writer.writerows(row(script, run, pair, arm, position) for position in range(script["prompts"]))
    say("over")
    expect("stop")
    say("ended")
    return 0


def row(script: dict[str, Any], run: int, pair: int, arm: str, position: int) -> dict[str, object]:
    """A steady time, but for a wobble that differs from run to run, as the statistics expect of a machine."""
    wobble = 1 + 0.002 * ((7 * run + 3 * position) % 5)
    same = {"cache_state": "primed", "page_cache": "warm", "prompt_tokens": 40, "expected_hit_tokens": 32, "hit_tokens": 32}
    times = {
        "planned_s": 0.1 * position,
        "sent_s": 0.1 * position,
        "ttft_s": script["ttft_s"] * wobble * (1.5 if arm == script["slow"] else 1),
    }
    if script["do"] == "fail requests" and run >= script["at"]:
        times["ttft_s"], same["error"] = "", "EngineDeadError: no memory"
    where = {"run": run, "round": pair, "position": position, "arm": arm, "prompt": f"p{position}"}
    return {**where, **same, **times, "output_digest": script["tokens"], "kv_digest": f"kv-{os.getpid()}"}


def misbehave(how: str, folder: Path) -> None:
    if how == "crash":
        print("MemoryError: no room for the KV cache", file=sys.stderr)
        sys.exit(1)
    if how == "be killed":
        leave_a_chunk_behind(folder)
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "nap":
        time.sleep(1.0)
    if how == "hang hard":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if how.startswith("hang"):
        time.sleep(600)
    if how == "babble":
        print("INFO loading weights", flush=True)


def leave_a_chunk_behind(folder: Path) -> None:
    (folder / "span_log").mkdir()
    saved = {"kind": "save", "key": "a" * 32, "checksums": [1]}
    (folder / "span_log" / "worker-0.jsonl").write_text(json.dumps(saved) + "\n")


def hear() -> dict[str, Any]:
    line = sys.stdin.readline()
    if not line:
        sys.exit(3)
    heard: dict[str, Any] = json.loads(line)
    return heard


def expect(kind: str) -> None:
    assert hear()["kind"] == kind


def say(kind: str, **fields: object) -> None:
    print(json.dumps({"kind": kind, **fields}), flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
