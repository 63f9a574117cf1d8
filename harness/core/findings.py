"""What is to be known about a result, as values: found where the numbers are, worded by ``str()`` where somebody reads them.

Code asks for a finding's kind, severity, subject or facts, never for its words. A new finding is a line of ``Kind``.
"""

import string
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from typing import Any

from harness.core.text import printable, without_secrets


class Severity(StrEnum):
    """How grave a finding is. ``VOID``: something that was measured does not count, or must not be judged."""

    NOTE = "note"
    WARNING = "warning"
    VOID = "void"


def note(words: str) -> tuple[Severity, str]:
    """A kind of finding that is only to be read."""
    return Severity.NOTE, words


def warning(words: str) -> tuple[Severity, str]:
    """A kind of finding that weakens a number."""
    return Severity.WARNING, words


def void(words: str) -> tuple[Severity, str]:
    """A kind of finding that takes a number away."""
    return Severity.VOID, words


class Kind(Enum):
    """Every finding with its severity and its words; in braces the facts, ``Words`` has the forms behind the colons."""

    # of a measurement (results)
    VOID_RUNS = void("VOID: {count} of {total:count run} excluded ({runs:named run}): {reason}")
    CORRECTNESS_FAILED = void("CORRECTNESS FAILED: {detail}")
    ARM_FAILED = void("FAILED: {subject} did not make it to the end: {reason}")
    REQUESTS_FAILED = void(
        "{requests:count request} of {subject} failed: {count} of its runs excluded ({runs:named run}); the first failed "
        "with: {reason}"
    )
    PARTIAL = warning("PARTIAL: the measurement was cut off{why:aside}; {rounds}{planned:of} rounds are complete")
    CORRECTNESS_SKIPPED = warning("the correctness pass was skipped, so nothing shows that the arms load the right KV")
    STOPPED = note("the measurement was ended early: {reason}")
    LOOKED = note(
        "a gate ended this after {rounds:count round}: {reason}; the intervals here do not correct for looking early, the"
        " gate's verdict does"
    )
    RUN_CUT_OFF = warning("run {run} ({subject}) is excluded: {reason}")
    WRONG_HITS = warning("{count:count request} of {subject} did not hit what the workload implies")
    RECORDED = warning("{text}")
    DATA_NOTE = note("{text}")
    CONDITIONS_DIFFER = warning("{subject} is {ours} in {one} and {theirs} in {other}")
    CONDITION_UNKNOWN = warning("run.json does not say the {subject}, so it could not be compared")

    # of a comparison (stats)
    ROUNDS_LOST = warning("{lost} of {total} rounds without a run of one arm, excluded: {rounds:list}")
    REQUESTS_LOST = warning("{count:count request} excluded, since the other run of the round has none for the same prompt")
    FEW_REQUESTS = warning("{subject} needs at least {needed} requests per run; the shortest has {smallest}")
    EXTREME = warning(
        "{subject} needs at least {needed} requests per run; the shortest has {smallest}, so it is no more than the "
        "extreme of the run"
    )
    ONE_PAIR = warning("1 pair of runs says nothing about chance; at least {needed} pairs are needed")
    FEW_PAIRS = warning("{pairs} pairs: the interval assumes normal noise; from {needed} pairs on it does not")
    FEW_PAIRS_FOR_ALL = warning("{pairs} pairs are few for intervals that hold for {quantiles} quantiles at once; 8 are better")
    ONE_ORDER = warning(
        "{subject} ran first in every pair, so a drift of the machine counts as a difference; alternate the order"
    )
    ODD_PAIR = warning("pair {round} stands out (ratio {ratio:.3f}); it is kept")
    RATIO_DRIFTS = warning("the ratio drifts over the pairs by about {percent:+.0f}% (p {p:.3f})")
    PAIRS_ALIKE = warning("neighbouring pairs are alike, so the interval may be too narrow; spread the pairs over more time")
    ONE_RUN = warning("1 run says nothing about chance")
    ODD_RUN = warning("run {run} of '{subject}' stands out: its {metric} is {value:ms}, the arm's median is {median:ms}")
    ARM_DRIFTS = warning("the arm's {metric} drifted by about {percent:+.0f}% over its runs (p {p:.3f})")
    NO_LOAD = warning("{subject} is not slower than {floor} beyond chance, so there is no load to hide in {rounds:count round}")
    APART = warning(
        "the runs share no rounds, so what changed on the machine between them counts as a difference; compare arms of "
        "one run, or each run's arm to a control arm of its own"
    )
    OF_STORED = warning("stored: {about}")
    NOT_COMPARED = warning("{reason}")

    # of a report (reporting)
    NOT_SHOWN = note("not shown: {metrics:needs}; the shortest run has {smallest}")
    UNSURE = note("* unsure: {metrics:needs}; the shortest run has {smallest}")
    NO_REQUEST = warning("{subject} has no request that counts")

    # of a gate: why it does not judge, and what to read beside its verdict
    NO_PROOF = void("the correctness pass failed ({detail}); fast and wrong is not judged")
    NO_CANDIDATE = void("'{subject}' loads nothing, so its KV is not real: it bounds the others from below and is no candidate")
    RUNS_VOID = void(
        "{count} of {total:count run} {count:is} void, first run {run}, since {reason}; find the cause and measure again"
    )
    GIVEN_UP = void("'{subject}' did not make it to the end: {reason}; an arm that fails is not faster")
    FAILED_REQUESTS = void(
        "{count} of {total:count request} of '{subject}' failed, the first in run {run} (prompt {prompt}): {reason}; an "
        "arm that drops requests is not faster"
    )
    NO_TIME = void(
        "{count:count request} without a TTFT above 0, the first in run {run} of '{subject}' (prompt {prompt}: {value:g} "
        "s); requests.csv is damaged or the clock is"
    )
    HITS_WRONG = void(
        "{count:count request} did not hit what the workload implies, the first in run {run} of '{subject}' (prompt "
        "{prompt}: {hit} tokens, not {expected}); the arms did different work"
    )
    HITS_DIFFER = void(
        "{count:count prompt} hit different numbers of tokens ({arms:both}, the first is prompt {prompt}); the arms did "
        "different work"
    )
    LENGTHS_DIFFER = void(
        "{count:count prompt} had different lengths ({arms:both}, the first is prompt {prompt}); the arms did different work"
    )
    TOKENS_DIFFER = void(
        "{count:count prompt} gave different tokens ({arms:both}, the first is prompt {prompt}); at least one of them "
        "loads wrong KV or runs another model"
    )
    KV_DIFFERS = void(
        "{count:count prompt} had different KV in the paged cache ({arms:both}, the first is prompt {prompt}); at least "
        "one of them loads wrong KV or runs another model"
    )
    RUNS_SHORT = void(
        "{count} of {total:count run} differ in size, the first, run {run} of '{subject}': {reason}; finish the "
        "experiment with --resume or measure again"
    )
    LAGGED = void("arm '{subject}': {reason}")
    NO_PAIRS = void(
        "no round has a run of both '{base}' and '{candidate}', so there are no pairs to judge by; measure both in one run"
    )
    OTHER_PROMPTS = void("the two runs replayed different prompts, so they did different work; replay the same workload")
    ENVIRONMENTS = void(
        "the environments differ: {subject} is {ours} in one run and {theirs} in the other; measure both arms in one run"
    )
    RUN_SHORT_OF = void(
        "{subject} cannot be gated on: it needs at least {needed} requests per run, the shortest has {smallest}; gate on "
        "a lower quantile or replay more prompts per run"
    )
    BELOW_FLOOR = void(
        "the margin of {subject}, {margin:.1%}, is below what {pairs} pairs can hold on this machine, {floor:.1%}; give a"
        " wider margin, more pairs, or --force"
    )
    FORCED = warning(
        "the margin of {subject}, {margin:.1%}, is below what {pairs} pairs can hold on this machine, {floor:.1%}; judged anyway,"
        " as forced"
    )
    OF_RUN = void("{run}: {about}")
    FILE_FAILED = void(
        "{count} of {total:count request} of '{subject}' failed, the first in {file}: {reason}; what drops requests is not faster"
    )
    FILE_LENGTHS = void("the prompts of the two sides have {ours} and {theirs} tokens in the mean; they did different work")
    FILE_LOADS = void("the files were measured under different loads, {ours} and {theirs}; measure both under one")
    FILE_TOOLS = void("the files are of different tools ({tools:list}), which take TTFT in their own ways; measure both by one")
    FILES = warning(
        "files of {tools:list} do not say on which machine and by which versions they were measured, what the requests hit, or "
        "whether the answers were right; whoever compares them has to know"
    )
    FILE_ALONE = warning(
        "'{subject}' is one run: how much runs differ cannot be seen from the requests of one, however many they are; give "
        "several files a side, measured in turns, as --base 'base*.json' --candidate 'new*.json'"
    )
    FILE_CUT = warning(
        "{count} of {total:count request} were cut off or cancelled, and the slow ones are among them; not counted"
    )
    RUNS_CUT_OFF = note("runs that were cut off are excluded: {runs:list}")
    NO_CALIBRATION = note(
        "no calibration of this machine was consulted, so a margin below the noise floor would not be noticed; make one "
        "with `ttft calibrate`"
    )
    OTHER_CALIBRATION = note("the calibration is not consulted, since {reason}; make one for this with `ttft calibrate`")
    LOOK = note("the look at {pairs} pairs of the declared plan ({looks:list}; {spending}; error rate {alpha:.6g}% in all)")
    BEFORE_LOOK = warning(
        "{pairs} pairs are complete, and the first look of the declared plan is at {look}: give a larger budget"
    )
    ARMS_UNLIKE = warning(
        "A against A differs by {bias:+.1%} ({low:+.1%} to {high:+.1%}): by chance in one of 20 metrics, otherwise the "
        "two arms are not treated alike"
    )
    METRICS_LEFT_OUT = note("too few requests per run ({smallest}) for: {metrics:list}")

    @property
    def severity(self) -> Severity:
        """How grave findings of this kind are."""
        return self.value[0]

    @property
    def words(self) -> str:
        """The template of the sentence, without a full stop."""
        return self.value[1]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to be known. ``subject``: the arm, metric or condition that it is about; ``facts``: names and values.

    ``of``: the arms, or the metric, that it is limited to where it does not hold for all.
    """

    kind: Kind
    subject: str = ""
    facts: tuple[tuple[str, Any], ...] = ()
    of: tuple[str, ...] = ()

    @property
    def severity(self) -> Severity:
        """That of its kind."""
        return self.kind.severity

    def limited(self, *of: str) -> "Finding":
        """The same of some arms or a metric only; what it is about need not be said twice."""
        return self if of == (self.subject,) else replace(self, of=of)

    def __getitem__(self, name: str) -> Any:
        """One fact. Raises KeyError."""
        return dict(self.facts)[name]

    def __str__(self) -> str:
        """The sentence, on one line, without secrets and without a full stop."""
        said = WORDS.format(self.kind.words, subject=self.subject, **dict(self.facts))
        return printable(without_secrets(f"{', '.join(self.of)}: {said}" if self.of else said))


def found(kind: Kind, subject: str = "", **facts: Any) -> Finding:
    """A finding; values of ``facts`` must be hashable."""
    return Finding(kind, subject, tuple(facts.items()))


def counted(number: int, noun: str) -> str:
    """``1 run``, ``1,200 runs``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class Words(string.Formatter):
    """``str.format``: ``count NOUN``, ``named NOUN``, ``is``, ``list``, ``both``, ``needs``, ``ms``, ``of``, ``aside``."""

    MOST = 8
    """Numbers that a list has before it is cut."""

    def format_field(self, value: Any, form: str) -> str:
        """One fact in its form; see the class."""
        name, _, noun = form.partition(" ")
        match name:
            case "count":
                return counted(int(value), noun)
            case "named":  # run 7; runs 0, 1
                return f"{noun}{'' if len(value) == 1 else 's'} {self.format_field(value, 'list')}"
            case "is":
                return "is" if value == 1 else "are"
            case "list":
                return ", ".join(map(str, value[: self.MOST])) + (", …" if len(value) > self.MOST else "")
            case "both":
                return " and ".join(f"'{one}'" for one in value)
            case "needs":
                (metric, needed), *rest = value
                return f"{metric} needs {needed} requests per run" + "".join(f", {name} {number}" for name, number in rest)
            case "ms":
                return f"{1e3 * value:.1f} ms"
            case "of":
                return f" of {value}" if value else ""
            case "aside":
                return f" ({value})" if value else ""
        return str(super().format_field(value, form))


WORDS = Words()
