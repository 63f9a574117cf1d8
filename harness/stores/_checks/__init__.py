"""Whether a store keeps its contract (harness/stores/base.py): checks that need but the store, and touch only their own keys.

The pytest suite (harness.testing.stores) runs the same list.
"""

from harness.stores._checks.checks import CHECKS, Check, Outcome, examine, name_of
from harness.stores._checks.expecting import Broken, NotApplicable, fetch, pattern
from harness.stores.scoped import Scoped, clean, fresh_prefix

__all__ = [
    "CHECKS",
    "Broken",
    "Check",
    "NotApplicable",
    "Outcome",
    "Scoped",
    "clean",
    "examine",
    "fetch",
    "fresh_prefix",
    "name_of",
    "pattern",
]
