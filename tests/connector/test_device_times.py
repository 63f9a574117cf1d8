"""What the span log says of a device: by its own clock, asked for after the tokens have left."""

from pathlib import Path

import pytest
from working import LOADING, A, B, Maker, load, make, store  # noqa: F401  fixtures among them

from harness.engines.device import DeviceClock, Mark
from harness.engines.paged import PagedKV
from harness.testing.late_device import LateDevice
from harness.testing.small_kv import WHOLE_PAGES, Shape


class AskedFor(LateDevice):
    """Counts how often the host asks for the device's times."""

    asked = 0

    def seconds(self, first: Mark, second: Mark) -> float:
        self.asked += 1
        return super().seconds(first, second)


class OnADevice(Shape):
    """A cache in the memory of ``device``."""

    device: LateDevice

    def build(self, device: str = "cpu") -> PagedKV:
        plain = super().build(device)
        return PagedKV(plain.layers, plain.geometry.chunk_blocks, plain.geometry.block_tokens, port=self.device)


@pytest.fixture
def shape() -> OnADevice:
    shape = OnADevice(**{name: getattr(WHOLE_PAGES, name) for name in WHOLE_PAGES.__dataclass_fields__})
    object.__setattr__(shape, "device", AskedFor(seed=3))
    return shape


@pytest.mark.parametrize("arm", LOADING)
def test_a_layer_is_waited_for_until_its_copy_is_over_on_the_device(arm: str, make: Maker, shape: OnADevice) -> None:
    one = make(shape=shape)
    one.save((A, (0, 1)), (B, (2, 3)))
    one.step([load(arm, "r", (A, B), (8, 9, 10, 11), "x")])
    assert isinstance(shape.device, AskedFor)
    assert shape.device.asked == 0, "a host that asks for times waits for the device, within the step that is timed"
    one.step(prove=["r"])
    (record,) = one.trace.loads("x")
    waits = {layer: end for kind, layer, _, end, *_ in record["spans"] if kind == "wait"}
    copies = [(layer, end) for kind, layer, _, end, *_ in record["spans"] if kind == "copy"]
    assert sorted(waits) == list(range(-1, one.cache.geometry.layers)), "the device's waits alone, one a layer"
    assert copies
    assert all(end <= waits[layer] for layer, end in copies)
    assert record["end_s"] == max(end for kind, _, _, end, *_ in record["spans"] if kind in ("fetch", "copy"))
    assert record["stall_s"] == pytest.approx(sum(e - s for kind, _, s, e, *_ in record["spans"] if kind == "wait")) != 0
    (forward,) = [(begin, end) for kind, _, begin, end, *_ in record["spans"] if kind == "forward"]
    assert forward[0] >= waits[-1]
    assert forward[1] >= waits[one.cache.geometry.layers - 1]


def test_without_a_span_log_nothing_is_marked(make: Maker, shape: OnADevice, monkeypatch: pytest.MonkeyPatch) -> None:
    one = make(shape=shape, traced=False)
    one.save((A, (0, 1)))
    monkeypatch.setattr(shape.device, "mark", None)  # a call would raise
    with pytest.raises(TypeError):
        DeviceClock(shape.device)
    one.step([load("chunkwise:pool=0", "r", (A,), (8, 9), "x")])
    assert one.contents((8, 9)) == one.contents((0, 1))


def test_a_clock_gives_times_in_the_order_of_the_stream(tmp_path: Path) -> None:
    device = LateDevice(seed=1)
    clock = DeviceClock(device)
    marks = []
    for _ in range(3):
        marks.append(device.mark(device.current()))
        device.work(device.current(), lambda: None)
    times = [clock.time_of(mark) for mark in marks]
    assert times == sorted(times)
    assert len(set(times)) == 3
