"""run.json of the combined run, from those of the two sides. Pure."""

from collections.abc import Mapping
from typing import Any

from harness.core.errors import RunError
from harness.experiment.lanes.combine import arm_of
from harness.gate import differences

SHARED = ("versions", "machine", "binding", "geometry", "direct_reads", "data")
"""Taken from the base: they are equal, or the run has been refused."""


def combine_metas(metas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the sides' run.json have to say together; ``metas`` by side, the base first.

    Raises RunError where the two versions read the same settings differently, or have other arms.
    """
    ours, theirs = metas.values()
    found = differences(ours, theirs)
    if found:
        raise RunError(f"the two versions do not measure the same: {found[0]}; say it by --set")
    names = {side: [str(arm["name"]) for arm in meta["arms"]] for side, meta in metas.items()}
    if len({tuple(some) for some in names.values()}) > 1:
        raise RunError(f"the two versions measure other arms: {'; '.join(f'{side}: {some}' for side, some in names.items())}")
    arms = [
        {**entry, "name": arm_of(entry["name"], side)}
        for position in range(len(ours["arms"]))
        for side, meta in metas.items()
        for entry in [meta["arms"][position]]
    ]
    config = {**ours["config"], "arms": [arm_of(arm, side) for arm in ours["config"]["arms"] for side in metas]}
    shared = {name: ours[name] for name in SHARED if name in ours}
    return {**shared, "config": config, "arms": arms, "correctness": _correctness(metas)}


def _correctness(metas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Passed only where both passed; a side that failed has ended the run before this."""
    proofs = {side: dict(meta.get("correctness") or {"status": "skipped"}) for side, meta in metas.items()}
    passed = all(proof.get("status") == "passed" for proof in proofs.values())
    return {"status": "passed" if passed else "skipped", **proofs}
