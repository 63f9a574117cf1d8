"""A plan is declared, kept in run.json, and judged by at its looks only."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.budget import CLEANING_UP_S, Budget
from harness.core.errors import ResultsError
from harness.gate import Outcome, PlanWatch, Verdict, default_looks, judge_by_plan, judge_run, plan_of
from harness.results import Measurement, load
from harness.stats import Plan
from harness.testing.runs import write_synthetic_run

BASE, SAME, SLOW = "chunkwise:pool=8", "chunkwise:pool=8@again", "chunkwise:pool=8@slow"
MARGINS = {"p50": 0.05}
PLAN = Plan((8, 12, 18))


def made_up(folder: Path, slow: float, rounds: int, **more: Any) -> Measurement:
    arms = {BASE: 0.1, SLOW: 0.1 * slow}
    return load(write_synthetic_run(folder / "run", list(arms), rounds=rounds, prompts=12, mean_s=arms, spans=False, **more))


def judged(run: Measurement, plan: Plan = PLAN) -> Verdict:
    return judge_by_plan(run, SLOW, BASE, MARGINS, plan)


@given(pairs=st.integers(2, 2000))
def test_default_looks_are_a_plan_that_ends_at_the_number_asked_for(pairs: int) -> None:
    looks = default_looks(pairs)
    assert looks[-1] == pairs and min(looks) >= min(8, pairs)
    assert Plan(looks).looks == looks
    assert len(looks) < 16


def test_default_looks_grow_by_half() -> None:
    assert default_looks(40) == (8, 12, 18, 27, 40)
    assert default_looks(8) == (8,)
    assert default_looks(9) == (9,)


def test_a_clear_case_is_decided_at_the_first_look(tmp_path: Path) -> None:
    verdict = judged(made_up(tmp_path, slow=1.5, rounds=18))
    assert (verdict.outcome, verdict.n_pairs) == (Outcome.FAIL, 8)
    assert verdict.alpha == 0.05 and verdict.alpha_used == PLAN.levels()[0] < 0.05
    assert str(verdict.warnings[0]).startswith(
        "the look at 8 pairs of the declared plan (8, 12, 18; pocock; error rate 5% in all)"
    )


def test_rounds_beyond_the_last_look_do_not_count(tmp_path: Path) -> None:
    run = made_up(tmp_path, slow=1.06, rounds=16, noise=0.2)
    verdict = judged(run)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.n_pairs == 12, "16 pairs are there, but the plan has no look at 16"
    assert judge_run(run, SLOW, BASE, MARGINS).n_pairs == 16


def test_what_was_decided_stays_decided(tmp_path: Path) -> None:
    """Later rounds that would have changed the verdict are not looked at."""
    run = made_up(tmp_path, slow=1.5, rounds=18)
    rows = run.requests.copy()
    late = (rows["round"] >= 8) & (rows["arm"] == SLOW)
    rows.loc[late, "ttft_s"] = 0.01
    assert judged(replace(run, requests=rows)).outcome is Outcome.FAIL
    assert judge_run(replace(run, requests=rows), SLOW, BASE, MARGINS).outcome is not Outcome.FAIL


@pytest.mark.parametrize("rounds", [1, 2, 7])
def test_before_the_first_look_nothing_is_decided(tmp_path: Path, rounds: int) -> None:
    verdict = judged(made_up(tmp_path, slow=3.0, rounds=rounds))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.further_pairs == 8 - rounds
    assert f"{rounds} pairs are complete, and the first look of the declared plan is at 8" in str(verdict.warnings[0])


def test_a_round_that_was_cut_off_is_no_pair(tmp_path: Path) -> None:
    verdict = judged(made_up(tmp_path, slow=3.0, rounds=8, stop_after=8 * 24 - 5))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "7 pairs are complete" in str(verdict.warnings[0])


def test_a_void_run_is_refused_at_the_look_that_sees_it(tmp_path: Path) -> None:
    run = made_up(tmp_path, slow=1.5, rounds=18, void={0: "zeros in the cache"})
    assert judged(run).outcome is Outcome.REFUSED
    # The eighth look was clear before the last round went wrong.
    later = made_up(tmp_path / "later", slow=1.5, rounds=18, void={35: "zeros in the cache"})
    assert judged(later).outcome is Outcome.FAIL


def test_the_plan_of_a_run_comes_back(tmp_path: Path) -> None:
    watch = PlanWatch(tmp_path, Plan((8, 12), 0.01, "obrien-fleming"), judge_never, Budget(60))
    assert plan_of(watch.declared) == Plan((8, 12), 0.01, "obrien-fleming")
    assert watch.declared["plan"]["budget_s"] == 60
    assert plan_of({}) is None


@pytest.mark.parametrize("raw", [{}, [], {"looks": [8, 4], "alpha": 0.05, "spending": "pocock"}, {"looks": "x"}, 7])
def test_a_damaged_plan_is_refused(raw: object) -> None:
    with pytest.raises(ResultsError, match=r"the plan in run\.json is damaged"):
        plan_of({"plan": raw})


def judge_never(run: Measurement, plan: Plan) -> Verdict:
    raise AssertionError("looked where the plan has no look")


def watch_of(run: Measurement, budget_s: float | None, clock: list[float]) -> PlanWatch:
    def now() -> float:
        return clock[0]

    budget = Budget(budget_s + CLEANING_UP_S, now) if budget_s else None
    return PlanWatch(run.path, PLAN, lambda run, plan: judge_by_plan(run, SLOW, BASE, MARGINS, plan), budget, now)


def test_a_watch_looks_at_the_looks_and_ends_what_is_clear(tmp_path: Path) -> None:
    run = made_up(tmp_path, slow=1.5, rounds=8)
    assert watch_of(run, None, [0.0]).after_round(8) == "FAIL at the look at 8 pairs"
    assert PlanWatch(run.path, PLAN, judge_never, None).after_round(7) is None


def test_a_watch_goes_on_while_nothing_is_clear(tmp_path: Path) -> None:
    run = made_up(tmp_path, slow=1.06, rounds=8, noise=0.2)
    assert watch_of(run, None, [0.0]).after_round(8) is None


def test_a_watch_ends_where_the_next_look_is_beyond_the_budget(tmp_path: Path) -> None:
    clock = [0.0]
    watch = watch_of(made_up(tmp_path, slow=1.06, rounds=8, noise=0.2), 100, clock)
    said = []
    for rounds in range(1, 4):
        clock[0] = 20.0 * rounds
        said.append(watch.after_round(rounds))
    # The first round tells no duration; after the second, six more take 120 s of the 60 that are left.
    assert said == [None, "the look at 8 pairs would take 120 s more, and 60 s of the budget are left", said[2]]
    assert said[2] is not None


def test_a_watch_goes_on_where_the_next_look_fits(tmp_path: Path) -> None:
    clock = [0.0]
    watch = watch_of(made_up(tmp_path, slow=1.06, rounds=8, noise=0.2), 100, clock)
    for rounds in range(1, 8):
        clock[0] = 10.0 * rounds
        assert watch.after_round(rounds) is None
