"""What happened inside the slowest request of each arm."""

from matplotlib.figure import Figure

from harness.reporting.figures.stories import slowest_story
from harness.reporting.figures.timeline import draw_stories
from harness.results.evidence import Evidence


def draw(evidence: Evidence) -> Figure | None:
    """A panel for the slowest request of each arm that loads. None where no such arm has spans."""
    note = "For each arm its request of longest TTFT: look here for what went wrong once, not for what is usual."
    return draw_stories(evidence, slowest_story, "Inside the slowest request: fetches and waits", note)
