"""Several runs side by side. Nothing is pooled: every interval comes from the rounds of one run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.errors import UsageError
from harness.reporting.summary import Summary
from harness.reporting.verdict import headline
from harness.results.evidence import Arm, Evidence

UNPOOLED = (
    "Every interval comes from the rounds of one run; nothing is pooled over the runs. Ratios within a run cancel the "
    "machine's drift; milliseconds of two runs, made at different times, do not compare."
)


@dataclass(frozen=True, slots=True)
class Several:
    """Runs in the order in which they were named. ``differences`` are sentences: what their environments do not share."""

    labels: tuple[str, ...]
    summaries: tuple[Summary, ...]
    differences: tuple[str, ...]

    @property
    def headline(self) -> str:
        """One sentence about what stands here."""
        text = f"{len(self.labels)} runs side by side, each with a verdict of its own"
        return f"{text}: their environments differ, so only ratios within a run may be read" if self.differences else text

    @property
    def verdicts(self) -> list[tuple[str, str]]:
        """Label and verdict of each run."""
        return [(label, headline(summary)) for label, summary in zip(self.labels, self.summaries, strict=True)]

    @property
    def concurrencies(self) -> list[int]:
        """The runs' concurrency where that, and nothing else, sets them apart; else empty."""
        found = [(summary.evidence.run.meta.get("config") or {}).get("concurrency") for summary in self.summaries]
        others = [text for text in self.differences if "setting 'concurrency'" not in text]
        numbers = [number for number in found if isinstance(number, int)]
        return numbers if not others and len(numbers) == len(found) and len(set(numbers)) == len(numbers) else []


def labels_of(paths: Sequence[Path]) -> tuple[str, ...]:
    """A short name for each run: its folder's, or the whole path where two folders have one name.

    Raises UsageError where a run is named twice.
    """
    places = [path.resolve() for path in paths]
    twice = next((path for path in places if places.count(path) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice} is named twice; name each run once")
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
