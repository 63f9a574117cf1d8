"""Why an arm's TTFT is what it is: where the time goes, which part is the bottleneck, what would change it.

explain(evidence) -> [Explanation], all values; sentences(parts, remedy) -> three sentences, last.
"""

from dataclasses import dataclass
from typing import Any

from harness.core.errors import ResultsError
from harness.reporting.explain.parts import Cause, Loads, Parts, parts_of
from harness.reporting.explain.remedies import Change, Remedy, remedy_of
from harness.reporting.explain.words import sentences
from harness.results.evidence import Evidence

__all__ = ["Cause", "Change", "Explanation", "Loads", "Parts", "Remedy", "explain"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """One arm: where its time goes, and what would change the largest part of it."""

    parts: Parts
    remedy: Remedy

    @property
    def sentences(self) -> tuple[str, str, str]:
        """In words."""
        return sentences(self.parts, self.remedy)

    def to_json(self) -> dict[str, Any]:
        """As plain values, times in seconds."""
        return {
            "arm": self.parts.arm.name,
            "ttft_mean_s": self.parts.ttft_s,
            "bottleneck": str(self.parts.bottleneck),
            "parts_s": {str(cause): value for cause, value in self.parts.seconds.items()},
            "change": str(self.remedy.change),
            "other_arm": self.remedy.arm or None,
            "other_arm_ttft_s": self.remedy.then_s,
            "command": self.remedy.command,
            "sentences": list(self.sentences),
        }


def explain(evidence: Evidence) -> list[Explanation]:
    """One explanation per arm that is no bound.

    Raises ResultsError if no request says where its time went, or none of the numbers counts: then there is nothing to explain.
    """
    if evidence.worthless:
        reason = evidence.left_out[0].reason if evidence.left_out else "its status is void"
        raise ResultsError(f"the numbers of {evidence.run.path} do not count ({reason}), so nothing explains them; measure again")
    if (evidence.run.meta.get("correctness") or {}).get("status") == "failed":
        raise ResultsError(
            f"the correctness pass of {evidence.run.path} failed, so its times are those of arms that load wrong KV"
        )
    found = parts_of(evidence)
    means = {parts.arm.name: parts.ttft_s for parts in found}
    return [Explanation(parts, remedy_of(evidence, parts, means)) for parts in found]
