"""The list of checks, and carrying them out on a store that others use as well."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from harness.core.errors import StoreError, StoreUnavailable
from harness.core.text import redact
from harness.stores._checks import objects, sharing
from harness.stores._checks.expecting import NotApplicable
from harness.stores.base import Store
from harness.stores.scoped import Scoped, clean

Check = Callable[[Scoped], None]
"""Returns where the store keeps the promise. Raises NotApplicable, or anything else where it doesn't."""

CHECKS: tuple[Check, ...] = (
    objects.objects_come_back_as_written,
    objects.parts_of_every_kind_are_joined,
    objects.every_legal_key_works,
    objects.keys_differ_by_case,
    objects.ranges_are_scattered_into_buffers,
    objects.aligned_ranges_fill_aligned_memory,
    objects.a_range_may_go_into_thousands_of_buffers,
    objects.a_batch_fills_the_rest_and_names_the_missing,
    objects.reading_past_the_end_is_truncated,
    objects.empty_batches_do_nothing,
    objects.exists_counts_up_to_the_first_gap,
    objects.what_is_deleted_is_missing,
    objects.keys_are_listed,
    objects.a_size_is_the_length_of_the_object,
    objects.a_second_write_wins_or_loses_wholly,
    objects.evicting_loses_nothing_and_says_the_truth,
    objects.errors_are_one_sentence_with_the_key,
    objects.a_layer_may_be_an_object,
    sharing.readers_see_whole_objects_while_writers_replace_them,
    sharing.readers_see_all_of_a_new_object_or_nothing,
    sharing.threads_share_a_store,
    sharing.areads_are_in_flight_together_and_fail_like_reads,
    sharing.several_event_loops_read_at_once,
    sharing.another_process_sees_the_objects,
    sharing.objects_outlive_the_store,
)

Verdict = Literal["ok", "NO", "-"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a check: ``NO`` and ``-`` (not applicable) have a reason."""

    name: str
    verdict: Verdict
    reason: str = ""


def name_of(check: Check) -> str:
    """A check's name, in words."""
    return check.__name__.replace("_", " ")


def examine(store: Store, address: str, prefix: str, checks: tuple[Check, ...] = CHECKS) -> Iterator[Outcome]:
    """Carry out ``checks`` one by one, each with keys that begin with ``prefix``, which are deleted after it.

    ``address`` is the store's URL as it was given. Raises StoreUnavailable where not even the first write works,
    StoreError where the objects of a check cannot be deleted.
    """
    for number, check in enumerate(checks):
        part = Scoped(store, address, f"{prefix}{number}-")
        try:
            outcome = _outcome(check, part, first=number == 0)
        except StoreUnavailable:  # what it says comes first, whatever deleting says
            with suppress(StoreError):
                clean(part)
            raise
        except BaseException:
            clean(part)
            raise
        left = None
        try:
            clean(part)
        except StoreError as error:
            left = error
        yield outcome
        if left is not None:
            raise left


def _outcome(check: Check, part: Scoped, first: bool) -> Outcome:
    try:
        check(part)
    except NotApplicable as reason:
        return Outcome(name_of(check), "-", str(reason))
    except Exception as error:  # a store of someone else's may raise anything
        if first and isinstance(error, StoreUnavailable):
            raise
        said = str(error) if isinstance(error, StoreError) else f"{type(error).__name__}: {error}"
        lines = said.replace(part.address, redact(part.address)).split("\n")
        return Outcome(name_of(check), "NO", lines[0] + (" ..." if len(lines) > 1 else ""))
    return Outcome(name_of(check), "ok")
