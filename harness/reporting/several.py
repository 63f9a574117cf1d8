"""Several measurements side by side. Nothing is pooled: every interval comes from the rounds of one of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.errors import UsageError
from harness.core.findings import Finding, Kind, found
from harness.reporting.summary import Summary, summarise
from harness.reporting.verdict import Headline, headline
from harness.results import load
from harness.results.conditions import Difference, differences, unknown_parts
from harness.results.evidence import Arm, Evidence, gather

UNPOOLED = (
    "Every interval comes from the rounds of one measurement; nothing is pooled. Ratios within a measurement cancel the "
    "machine's drift; milliseconds of two measurements, made at different times, do not compare."
)


@dataclass(frozen=True, slots=True)
class Several:
    """Measurements in the order in which they were named; ``differences``: what their environments do not share.

    ``concurrencies``: theirs if that, and nothing else, sets them apart; else empty.
    """

    labels: tuple[str, ...]
    summaries: tuple[Summary, ...]
    headlines: tuple[Headline, ...]
    differences: tuple[Finding, ...]
    concurrencies: tuple[int, ...]

    @property
    def headline(self) -> str:
        """One sentence about all of them."""
        text = f"{len(self.labels)} measurements side by side, each with its own verdict"
        return (
            f"{text}: their environments differ, so only ratios within a measurement can be compared"
            if self.differences
            else text
        )


def gather_several(paths: Sequence[Path]) -> Several:
    """The numbers of each measurement, and how the environments of the others differ from the first's.

    Raises UsageError if one is named twice, ResultsError if a folder is none of ours.
    """
    labels = _labels(paths)
    first, *others = measurements = [load(path) for path in paths]
    apart: list[Difference] = []
    findings: list[Finding] = []
    for label, other in zip(labels[1:], others, strict=True):
        for one in (found_apart := differences(first.meta, other.meta)):
            values = {"ours": one.ours, "one": labels[0], "theirs": one.theirs, "other": label}
            findings.append(found(Kind.CONDITIONS_DIFFER, one.what, **values))
        apart += found_apart
        findings += unknown_parts(first.meta, other.meta)
    alone = all((one.part, one.name) == ("setting", "concurrency") for one in apart) and len(apart) == len(findings)
    numbers = [(one.meta.get("config") or {}).get("concurrency") for one in measurements]
    told = tuple(number for number in numbers if isinstance(number, int))
    concurrencies = told if alone and len(told) == len(numbers) == len(set(told)) else ()
    summaries = tuple(summarise(gather(one)) for one in measurements)
    return Several(labels, summaries, tuple(map(headline, summaries)), tuple(dict.fromkeys(findings)), concurrencies)


def _labels(paths: Sequence[Path]) -> tuple[str, ...]:
    """A short name for each: its folder's, or the whole path if two folders have one name."""
    places = [path.resolve() for path in paths]
    twice = next((path for path in places if places.count(path) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice} is listed twice; name each run once")
    names = [path.name for path in places]
    return tuple(str(place) if names.count(place.name) > 1 else place.name for place in places)


def alike(evidences: Sequence[Evidence]) -> list[Evidence]:
    """The same evidence, with one list of arms for all, so that an arm looks the same in every run's figures."""
    arms: dict[str, Arm] = {}
    for evidence in evidences:
        for arm in evidence.arms:
            arms.setdefault(arm.name, arm)
    ordered = sorted(arms.values(), key=lambda arm: arm.bound)
    return [
        replace(evidence, arms=tuple(replace(arm, order=order) for order, arm in enumerate(ordered))) for evidence in evidences
    ]
