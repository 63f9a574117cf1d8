"""Host memory for bytes on their way to or from the paged cache: allocated once, lent out in slots, taken back when copied."""

import threading

import torch

from harness.engines.device import Event, HostDevice

LARGEST = 256 * 2**20
"""Bytes that a ring has at most, unless a single slot run needs more."""


class Ring:
    """``count`` slots of ``slot_bytes`` each. Thread-safe.

    Who takes slots waits until there are as many, first come, first served: a store that is faster than the link to the
    device is held back here. A slot given back with an event comes free when the event has come to pass.
    """

    def __init__(self, device: HostDevice, slot_bytes: int, count: int) -> None:
        self.slot_bytes, self.count = slot_bytes, count
        self.memory = device.memory(slot_bytes * count)
        view = memoryview(self.memory.numpy())
        self.views = [view[i * slot_bytes : (i + 1) * slot_bytes] for i in range(count)]
        self._device = device
        self._free = list(range(count - 1, -1, -1))
        self._copying: list[tuple[Event, list[int]]] = []
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    def take(self, count: int) -> list[int]:
        """``count`` slots, at most all there are; waits for them."""
        with self._turn:  # or a call that needs many would wait for ever behind those that need few
            while True:
                with self._changed:
                    slots = self._claim(count)
                    if slots is not None:
                        return slots
                    if not self._copying:
                        self._changed.wait()
                        continue
                    event = self._copying[0][0]
                event.synchronize()

    def take_now(self, count: int) -> list[int] | None:
        """``count`` slots, or None where they would have to be waited for."""
        if not self._turn.acquire(blocking=False):
            return None
        try:
            return self._claim(count)
        finally:
            self._turn.release()

    def give(self, slots: list[int], event: Event | None = None) -> None:
        """Give slots back, from ``event`` on. Without one nothing reads or writes them any more."""
        if not slots:
            return
        with self._changed:
            if event is None:
                self._come_free(slots)
            else:
                self._copying.append((event, slots))
            self._changed.notify_all()

    def _claim(self, count: int) -> list[int] | None:
        with self._changed:
            done = [(event, slots) for event, slots in self._copying if event.query()]
            for entry in done:
                self._copying.remove(entry)
                self._come_free(entry[1])
            if len(self._free) < count:
                return None
            return [self._free.pop() for _ in range(count)]

    def _come_free(self, slots: list[int]) -> None:
        for slot in slots:
            self._device.returned(self.part(slot))
        self._free.extend(reversed(slots))

    def part(self, slot: int) -> torch.Tensor:
        """The memory of a slot."""
        return self.memory[slot * self.slot_bytes : (slot + 1) * self.slot_bytes]
