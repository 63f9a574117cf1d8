"""The page in a real browser: it draws, logs nothing, asks nobody, fits the screen, and its controls work.

Where Chromium is missing these tests skip; with CI_REQUIRES_SERVERS=1 they fail.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Tab, browser
from servers import require

from harness import report
from harness.reporting import figures as plots
from harness.reporting.figures import ecdf
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
    """A rendered run with hostile names; one kind of static picture is enough here."""
    folder = write_synthetic_run(tmp_path_factory.mktemp("run"), EVIL, rounds=4, prompts=12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "PICTURES", {"ecdf": ecdf.draw})
        report.of(load(folder)).write()
    return folder / "report.html"


VISIBLE = "[...Bokeh.documents].flatMap(d => [...d.all_models]).filter(m => (m.tags || []).includes('arm:1') && m.visible).length"


def test_it_draws_everything_quietly_and_alone(tab: Tab, page: Path) -> None:
    for width, dark, touch in ((390, False, True), (1366, True, False)):
        tab.look(width, dark=dark, touch=touch)
        tab.open(page)
        drawn, places = (tab.ask(f"document.querySelectorAll('{what}').length") for what in (".figure.on", ".plot"))
        assert drawn == places > 8
        assert tab.ask("document.documentElement.scrollWidth <= window.innerWidth"), f"wider than a screen of {width} px"
        sizes = tab.ask("[...document.querySelectorAll('.bk-Figure')].map(f => [f.clientWidth, f.clientHeight])")
        assert len(sizes) == places
        assert all(280 < across <= width and down > 150 for across, down in sizes)
    assert tab.console == []
    assert tab.dialogs == []
    assert {url for url in tab.requests if not url.startswith("data:")} == {page.resolve().as_uri()}


def test_the_controls_work_from_the_keyboard(tab: Tab, page: Path) -> None:
    tab.look(1366)
    tab.open(page)
    assert tab.ask(VISIBLE) > 5
    tab.ask("document.querySelector('#ecdf input[data-arm=\"1\"]').focus()")
    for kind in ("keyDown", "keyUp"):
        tab.call("Input.dispatchKeyEvent", type=kind, key=" ", code="Space", text=" " if kind == "keyDown" else "")
    assert tab.ask(VISIBLE) == 0
    assert tab.ask("[...document.querySelectorAll('input[data-arm=\"1\"]')].every(box => !box.checked)")
    said = tab.ask("document.querySelector('#slowest .said').textContent")
    tab.ask("document.querySelector('#slowest select').focus()")
    for kind in ("rawKeyDown", "keyUp"):
        tab.call("Input.dispatchKeyEvent", type=kind, key="ArrowUp", code="ArrowUp", windowsVirtualKeyCode=38)
    now = tab.ask("document.querySelector('#slowest .said').textContent")
    assert now != said
    assert now.endswith("ms")
    assert tab.console == []


def test_a_tooltip_shows_names_as_text(tab: Tab, page: Path) -> None:
    tab.look(1366)
    tab.open(page)
    place = "document.querySelector('#parts .plot')"
    tab.ask(f"{place}.scrollIntoView()")
    left, top = tab.ask(f"(r => [r.left, r.top])({place}.getBoundingClientRect())")
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=left + 200, y=top + 150)
    shown = tab.ask(
        """new Promise(done => { const look = () => {
            const texts = []; const walk = node => { for (const one of node.querySelectorAll('*')) {
              if (one.classList.contains('bk-Tooltip')) texts.push(one.shadowRoot.textContent);
              if (one.shadowRoot) walk(one.shadowRoot); } };
            walk(document); const text = texts.join(' ');
            text.includes('mean') ? done(text) : setTimeout(look, 30); }; look(); })"""
    )
    assert "onerror=alert(2)> $$x^2$$ @arm $name" in shown
    assert tab.dialogs == []
    assert tab.console == []


def test_it_prints_static_pictures(tab: Tab, page: Path) -> None:
    tab.look(1366)
    tab.open(page)
    tab.call("Emulation.setEmulatedMedia", media="print")
    assert tab.ask("getComputedStyle(document.querySelector('#ecdf .still')).display") == "block"
    assert tab.ask("getComputedStyle(document.querySelector('#ecdf .live')).display") == "none"
    assert tab.pdf().startswith(b"%PDF")
    tab.call("Emulation.setEmulatedMedia", media="")


def test_without_javascript_the_pictures_stand_in(tab: Tab, page: Path) -> None:
    tab.look(390)
    with tab.without_scripts():
        tab.open(page, ready="true")
        assert tab.ask("document.querySelectorAll('.figure.on').length") == 0
        assert tab.ask("getComputedStyle(document.querySelector('#ecdf .still')).display") == "block"
        assert tab.ask("document.documentElement.scrollWidth <= window.innerWidth")
