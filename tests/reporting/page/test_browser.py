"""The page in a real browser: it draws, logs nothing, asks nobody, fits the screen, and its buttons work.

Where Chromium is missing these tests skip; with CI_REQUIRES_SERVERS=1 they fail.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Tab, browser
from servers import require

from harness import report
from harness.results import load
from harness.testing.runs import write_synthetic_run

EVIL = (
    "chunkwise:note=</script><script>alert(1)</script>",
    "layerwise:<img src=x onerror=alert(2)> $$x^2$$ @arm $name",
    "floor",
)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    program = require("chromium", "chromium")
    with browser(program, tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered run with hostile names."""
    folder = write_synthetic_run(tmp_path_factory.mktemp("run"), EVIL, rounds=4, prompts=12)
    report.of(load(folder)).write()
    return folder / "report.html"


PLOTS = "[...document.querySelectorAll('.plot > svg')]"
SEEN = "[...document.querySelectorAll('.arm-1')].filter(part => part.getClientRects().length).length"
"""How many parts of the arm of number 1 are drawn on the screen, in all figures."""


def test_it_draws_everything_quietly_and_alone(tab: Tab, page: Path) -> None:
    for width, dark, touch in ((390, False, True), (1366, True, False)):
        tab.look(width, dark=dark, touch=touch)
        tab.open(page)
        assert tab.ask("document.documentElement.scrollWidth <= window.innerWidth"), f"wider than a screen of {width} px"
        sizes = tab.ask(f"{PLOTS}.map(plot => [plot.clientWidth, plot.clientHeight, plot.parentElement.clientWidth])")
        assert len(sizes) > 8
        assert all(across > 280 and down > 150 and place <= width for across, down, place in sizes)
        assert width < 500 or all(
            across <= place for across, _, place in sizes
        )  # a phone scrolls a plot, or nobody could read it
    assert tab.console == []
    assert tab.dialogs == []
    assert set(tab.requests) == {page.resolve().as_uri()}


def test_text_is_light_on_a_dark_screen(tab: Tab, page: Path) -> None:
    lightness = "getComputedStyle(document.querySelector('#ecdf svg text')).fill.match(/\\d+/g).map(Number)"
    for dark in (False, True):
        tab.look(1366, dark=dark)
        tab.open(page)
        assert all((part > 200) == dark for part in tab.ask(lightness))


def test_a_key_hides_an_arm_in_every_figure_and_shows_it_again(tab: Tab, page: Path) -> None:
    tab.look(1366)
    tab.open(page)
    figures = tab.ask(f"{PLOTS}.filter(plot => plot.querySelector('.arm-1')).length")
    assert figures > 7
    before = tab.ask(SEEN)
    assert before >= figures
    pressed = "[...document.querySelectorAll('button[data-arm=\"1\"]')].map(button => button.getAttribute('aria-pressed'))"
    for seen, state in ((0, "false"), (before, "true")):
        tab.ask("document.querySelector('#ecdf button[data-arm=\"1\"]').focus()")
        for kind in ("keyDown", "keyUp"):
            tab.call("Input.dispatchKeyEvent", type=kind, key=" ", code="Space", text=" " if kind == "keyDown" else "")
        assert tab.ask(SEEN) == seen
        assert set(tab.ask(pressed)) == {state}
    assert tab.console == []


def test_values_are_titles_and_names_in_them_are_text(tab: Tab, page: Path) -> None:
    tab.look(1366)
    tab.open(page)
    titles = tab.ask(f"{PLOTS}.map(plot => [...plot.querySelectorAll('title')].map(title => title.textContent))")
    assert all(titles)
    assert any("onerror=alert(2)> $$x^2$$ @arm $name, stall" in text for figure in titles for text in figure)
    under = """(where => {
        const box = where.getBoundingClientRect();
        window.scrollTo(0, box.top + window.scrollY - 300);
        const now = where.getBoundingClientRect();
        return document.elementFromPoint(now.left + now.width / 2, now.top + now.height / 2).closest('.arm-0, .arm-1')
            .querySelector('title').textContent;
    })(document.querySelector('#parts .arm-0 path'))"""
    assert tab.ask(under)
    assert tab.dialogs == []
    assert tab.console == []


def test_it_prints_in_light_colours(tab: Tab, page: Path) -> None:
    tab.look(1366, dark=True)
    tab.open(page)
    tab.call("Emulation.setEmulatedMedia", media="print")
    assert tab.ask("getComputedStyle(document.querySelector('#ecdf svg text')).fill") == "rgb(34, 34, 34)"
    assert tab.pdf().startswith(b"%PDF")
    tab.call("Emulation.setEmulatedMedia", media="")


def test_without_javascript_the_figures_are_there_and_nothing_pretends_to_work(tab: Tab, page: Path) -> None:
    tab.look(390)
    with tab.without_scripts():
        tab.open(page)
        assert tab.ask(SEEN) > 7
        assert tab.ask("[...document.querySelectorAll('button')].every(button => button.disabled)")
        assert tab.ask("document.documentElement.scrollWidth <= window.innerWidth")
