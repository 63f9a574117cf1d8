"""Whether an experiment has the key of an axis, and whether its values make points or arms. Pure."""

from collections.abc import Mapping

from harness.connector.settings import parse_arm
from harness.core.errors import UsageError, known
from harness.core.renamed import option_today
from harness.core.text import redact
from harness.experiment.dotted import OPENED, options_of
from harness.experiment.settings import Experiment
from harness.experiment.sweep.axes import Axis

NOT_VARIED: Mapping[str, str] = {
    "arms": "several --arm make several arms, and ENGINE.OPTION, such as chunkwise.pool=0,8, varies an option of them",
    "bounds": "it says which arms are measured; set it by --set bounds=false",
    "pairs": "it says how often each point is measured; give --pairs",
    "question": "it only says what the experiment answers",
    "vary": "it lists what is varied",
    "vllm": "name the engine argument, such as vllm.max_num_seqs=4,8",
}
"""Settings that are no axes, and why."""


ADDING = {
    "concurrency", "neighbours", "store.latency_ms", "model.layers",
    "workload.prefix", "workload.suffix", "workload.document", "workload.question", "workload.shared", "workload.scale",
}  # fmt: skip
"""Settings of which each unit adds about as much time as the last: round trips, tokens, layers, requests in flight."""


def is_arm_axis(axis: Axis) -> bool:
    """Whether its values become arms; those of every other axis become points."""
    return bool(axis.owner) and axis.owner not in OPENED


def straight_along(axis: Axis) -> str:
    """What is about linear between two values: ``times`` if each unit adds as much as the last, the logarithms of
    ``ratios`` if it divides (an option of an engine such as pool, a bandwidth); empty if neither is known."""
    if axis.key in ADDING:
        return "times"
    return "ratios" if is_arm_axis(axis) or axis.option.endswith(("_mb_s", "_mbps")) else ""


def check_key(axis: Axis, experiment: Experiment) -> None:
    """Raise UsageError, with what there is, if the experiment has no such thing to vary."""
    if not axis.owner:
        if axis.key in NOT_VARIED:
            raise UsageError(f"{axis.key} cannot be varied: {NOT_VARIED[axis.key]}")
        if axis.key not in Experiment.model_fields:
            engines = sorted({f"{parse_arm(arm).engine.name}.OPTION" for arm in experiment.arms})
            names = [name for name in Experiment.model_fields if name not in NOT_VARIED]
            raise known("setting to vary", axis.key, [*names, *(f"{name}.OPTION" for name in OPENED), *engines])
        if axis.key == "store" and any(redact(value) != value for value in axis.values):
            raise UsageError(
                "--vary store has a password in it, which sweep.json must not keep; give it as a variable of the store"
            )
        return
    options = options_of(axis.owner, experiment)
    if options is not None and (option_today(axis.option) if axis.owner == "store" else axis.option) not in options:
        raise known(f"option of {axis.owner} to vary", axis.key, [f"{axis.owner}.{name}" for name in options])
