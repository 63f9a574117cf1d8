"""The Grafana dashboard names only metrics that there are."""

import json
import re
from pathlib import Path

from harness.replay.prometheus import NAMES

DASHBOARD = Path(__file__).resolve().parents[2] / "examples" / "grafana" / "ttft-connector.json"


def test_each_metric_is_one_that_is_scraped_from_vllm_itself() -> None:
    """NAMES is what measurements read from real servers (tests/e2e/test_target.py), so what stands there exists."""
    board = json.loads(DASHBOARD.read_text("utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked += [one["query"] for one in board["templating"]["list"]]
    named = {name for text in asked for name in re.findall(r"\bvllm:\w+", text)}
    histograms = {name.removesuffix("_sum") + "_bucket" for name in NAMES if name.endswith("_sum")}
    assert named and named - set(NAMES) - histograms == set()
    assert {name for name in NAMES if name.startswith("vllm:ttft_")} <= named


def test_its_panels_do_not_overlap_and_say_what_they_show() -> None:
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    places = [(one["gridPos"]["x"], one["gridPos"]["y"]) for one in panels]
    assert len(set(places)) == len(panels) == len({one["id"] for one in panels})
    assert all(one["title"] and one["fieldConfig"]["defaults"]["unit"] for one in panels)
