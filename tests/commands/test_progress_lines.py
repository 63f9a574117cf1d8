"""Progress where there is no terminal: a line on stderr now and then, never a bar."""

import io

import pytest
from rich.console import Console

from harness.commands.progress_bar import ProgressBar


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def progress(terminal: bool, clock: Clock) -> ProgressBar:
    return ProgressBar(Console(file=io.StringIO(), force_terminal=terminal, width=100), clock=clock)


def test_a_line_every_half_minute_and_none_between(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with progress(False, clock) as bar:
        bar.expect(100)
        for _ in range(50):
            clock.now += 2
            bar.done("layerwise", 0.1)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "  15 of 100 requests in 0:30, about 2:50 left",
        "  30 of 100 requests in 1:00, about 2:20 left",
        "  45 of 100 requests in 1:30, about 1:50 left",
    ]


def test_a_terminal_has_its_bar(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with progress(True, clock) as bar:
        bar.expect(3)
        for _ in range(3):
            clock.now += 40
            bar.done("layerwise", 0.1)
    assert capsys.readouterr().err == ""
