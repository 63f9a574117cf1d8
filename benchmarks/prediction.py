"""Measured TTFT beside the recurrence's prediction, from a stored run on a shaped store that has a floor arm.

    python benchmarks/prediction.py RUN

Compute comes from the floor arm of the same run, latency and bandwidth from the store's URL, one request at a time.
"""

import sys
from urllib.parse import parse_qsl, urlsplit

from harness.connector.settings import parse_arm
from harness.model import Link, Step, predict_chunkwise, predict_layerwise
from harness.results import load


def main(path: str) -> None:
    run = load(path)
    options = dict(parse_qsl(urlsplit(run.meta["config"]["store"]).query))
    if not float(options.get("stream_mbps", 0)) or run.meta["config"]["concurrency"] != 1:
        raise SystemExit(f"{path} needs a store with stream_mbps and concurrency 1")
    link = Link(float(options.get("latency_ms", 0)) / 1e3, float(options["stream_mbps"]) * 1e6)
    medians = run.counted.groupby("arm").median(numeric_only=True)
    if "floor" not in medians.index:
        raise SystemExit(f"{path} has no floor arm to take the compute from")
    geometry: dict[str, int] = run.meta["geometry"]
    floor = dict(medians.loc["floor"])
    layer_bytes = geometry["block_bytes"] * geometry["chunk_blocks"]
    for arm in run.meta["arms"]:
        if not arm["loads_kv"]:
            continue
        measured = dict(medians.loc[arm["name"]])
        chunks = int(measured["hit_tokens"]) // (geometry["block_tokens"] * geometry["chunk_blocks"])
        compute_s = float(floor["compute_s"])
        step = Step(chunks, geometry["layers"], layer_bytes, compute_s, float(floor["ttft_s"]) - compute_s)
        found = parse_arm(arm["name"]).options.model_dump()
        if arm["engine"] == "chunkwise":
            if found["pool"] == "default":
                continue
            predicted = predict_chunkwise(link, step, found["pool"], found["batch"])
        else:
            settings = [found[name] for name in ("readers", "depth", "layers_per_fetch", "batch")]
            predicted = predict_layerwise(link, step, *settings)
        ratio = float(measured["ttft_s"]) / predicted
        print(f"{arm['name']}: measured {measured['ttft_s'] * 1e3:.0f} ms, predicted {predicted * 1e3:.0f} ms, ratio {ratio:.3f}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(sys.argv[1])
