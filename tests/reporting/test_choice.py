"""Which arm is recommended: shown differences only, and the simplest where there are none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.recurrence import Link
from harness.reporting import choice as module
from harness.reporting.choice import Choice, choose, sentences
from harness.reporting.forecast import shortlist
from harness.reporting.forecast.prediction import Setup
from harness.results import load
from harness.results.evidence import Evidence, gather
from harness.stats import Comparison, compare
from harness.testing.runs import write_synthetic_run

ARMS = ["chunkwise:pool=0", "chunkwise:pool=8", "layerwise:depth=4"]


def evidence(folder: Path, rounds: int = 12, **mean_s: float) -> Evidence:
    means = dict(zip(ARMS, mean_s.values(), strict=True))
    write_synthetic_run(folder, arms=[*ARMS, "recompute"], rounds=rounds, prompts=12, mean_s={**means, "recompute": 0.6})
    return gather(load(folder))


def test_the_fastest_is_recommended_where_it_is_shown(tmp_path: Path) -> None:
    choice = choose(evidence(tmp_path, a=0.5, b=0.4, c=0.3), ARMS)
    assert choice.arm == ARMS[2] and not choice.alike and len(choice.slower) == 2
    assert all(one.ratio > one.low > 1 for one in choice.ratios)
    said = sentences(choice)
    assert said[0] == "Recommended: layerwise:depth=4, which is shown to be the fastest of these 3 arms."
    assert said[1].startswith("chunkwise:pool=0 is slower: its TTFT is 1.6")


def test_no_difference_gives_the_simplest(tmp_path: Path) -> None:
    choice = choose(evidence(tmp_path, a=0.4, b=0.4, c=0.4), ARMS)
    assert choice.arm == ARMS[0] and len(choice.alike) == 2
    assert sentences(choice)[0] == "No difference shown between these 3 arms. Recommended: chunkwise:pool=0, the simplest."
    assert all(one.low < 1 < one.high for one in choice.ratios)


def test_of_those_that_none_beats_the_simplest(tmp_path: Path) -> None:
    choice = choose(evidence(tmp_path, a=0.5, b=0.3, c=0.3), ARMS)
    assert choice.arm == ARMS[1]
    assert [one.candidate for one in choice.slower] == [ARMS[0]] and [one.candidate for one in choice.alike] == [ARMS[2]]
    assert "the simplest of the 2 arms that none is shown to beat" in sentences(choice)[0]


def test_one_round_shows_nothing(tmp_path: Path) -> None:
    choice = choose(evidence(tmp_path, rounds=1, a=0.9, b=0.4, c=0.3), ARMS)
    assert choice.arm == ARMS[0] and len(choice.alike) == 2


def test_the_intervals_hold_for_all_pairs_together(tmp_path: Path) -> None:
    found = evidence(tmp_path, a=0.5, b=0.4, c=0.3)
    of_three, of_two = choose(found, ARMS).ratios[0], choose(found, [ARMS[0], ARMS[2]]).ratios[0]
    assert (of_three.candidate, of_two.candidate) == (ARMS[0], ARMS[0])
    assert of_three.alpha == pytest.approx(0.05 / 3) and of_three.low < of_two.low and of_three.high > of_two.high


def test_that_recomputing_is_faster_is_not_kept_back(tmp_path: Path) -> None:
    choice = choose(evidence(tmp_path, a=0.9, b=0.9, c=0.9), ARMS)
    assert sentences(choice)[-1].startswith("WARNING: the median TTFT is") and "does not pay to fetch" in sentences(choice)[-1]


def given(monkeypatch: pytest.MonkeyPatch, found: Evidence, bounds: dict[tuple[int, int], tuple[float, float]]) -> Choice:
    """The choice where the intervals of the ratios are ``bounds``, by the places of base and candidate in ARMS."""

    def compared(rows: object, base: str, candidate: str, **more: Any) -> list[Comparison]:
        if candidate == "recompute":
            return compare(found.rows, base, candidate, **more)
        pair = ARMS.index(base), ARMS.index(candidate)
        low, high = bounds[pair] if pair in bounds else [1 / one for one in bounds[pair[::-1]]][::-1]
        return [replace(one, low=low, high=high) for one in compare(found.rows, base, candidate, **more)]

    monkeypatch.setattr(module, "compare", compared)
    return choose(found, ARMS)


def test_an_arm_that_another_one_beats_is_none_of_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, unsure, slower, faster = evidence(tmp_path, a=0.4, b=0.4, c=0.4), (0.5, 2.0), (1.2, 1.4), (0.6, 0.8)
    # The first is like both others, and of these one beats the other.
    choice = given(monkeypatch, found, {(0, 1): unsure, (0, 2): unsure, (1, 2): faster})
    assert (choice.arm, choice.unbeaten, choice.shown_fastest) == (ARMS[0], (ARMS[0], ARMS[2]), False)
    assert sentences(choice)[0] == "Recommended: chunkwise:pool=0, the simplest of the 2 arms that none is shown to beat."
    choice = given(monkeypatch, found, {(0, 1): slower, (0, 2): unsure, (1, 2): slower})
    assert (choice.unbeaten, choice.shown_fastest) == ((ARMS[0],), False)
    assert "the only one of these 3 arms that none is shown to beat" in sentences(choice)[0]


def test_a_circle_shows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = evidence(tmp_path, a=0.4, b=0.4, c=0.4)
    choice = given(monkeypatch, found, {(0, 1): (1.2, 1.4), (1, 2): (1.2, 1.4), (0, 2): (0.6, 0.8)})
    assert (choice.arm, choice.unbeaten, choice.shown_fastest) == (ARMS[0], (), False)
    said = sentences(choice)
    assert said[0].startswith("Each of these 3 arms is beaten by another one, so nothing is shown.")
    assert any(text.startswith("layerwise:depth=4 is faster") for text in said)


def test_that_fetching_pays_is_said_only_where_it_is_shown(tmp_path: Path) -> None:
    close = choose(evidence(tmp_path, a=0.6, b=0.6, c=0.6), ARMS)
    assert sentences(close)[-1].endswith("that it pays to fetch is not shown.")
    clear = choose(evidence(tmp_path / "clear", a=0.4, b=0.4, c=0.4), ARMS)
    assert sentences(clear)[-1].startswith("The median TTFT is ")


@pytest.mark.parametrize(
    "link", [Link(0.002, 300e6, 2400e6), Link(5e-5, 3e9, 6e9), Link(0.02, 50e6, None), Link(0.0, 1e12, 1e12)]
)
def test_a_few_arms_of_both_engines_are_worth_measuring(link: Link) -> None:
    arms = shortlist(Setup(link, 24, 256 * 2048, 256, 2), [1024, 4096])
    assert arms[0] == "chunkwise:pool=0" and 2 <= len(arms) <= 4
    assert any(arm.startswith("layerwise") for arm in arms)


def test_a_slow_store_is_given_threads() -> None:
    arms = shortlist(Setup(Link(0.02, 50e6, None), 24, 256 * 2048, 256, 2), [4096])
    assert any("pool=8" in arm or "pool=16" in arm or "pool=32" in arm for arm in arms)
