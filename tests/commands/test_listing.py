"""The lists of what can be named: complete, and for an unknown kind the known ones."""

from pathlib import Path

import pytest
from rich.console import Console

from harness.commands.listing import KINDS, catalogue
from harness.connector.peers import PEERS
from harness.core.errors import UsageError
from harness.engines import ENGINES
from harness.experiment.settings import Experiment
from harness.stores import STORES
from harness.workloads import WORKLOADS


def shown(kind: str) -> str:
    console = Console(width=140, record=True, file=Path("/dev/null").open("w"), highlight=False)  # noqa: SIM115
    for item in catalogue(kind):
        console.print(item, markup=False)
    console.file.close()
    return console.export_text()


@pytest.mark.parametrize(
    ("kind", "registry"), [("engines", ENGINES), ("peers", PEERS), ("stores", STORES), ("workloads", WORKLOADS)]
)
def test_every_name_and_every_option_is_listed(kind: str, registry: object) -> None:
    text = shown(kind)
    for name, cls in registry.all().items():  # type: ignore[attr-defined]
        assert f"{name}: " in text
        for option, field in cls.Options.model_fields.items():
            assert option in text
            assert field.description, f"option {option} of {name} has no description"


def test_every_setting_is_listed() -> None:
    text = shown("settings")
    assert [name for name in Experiment.model_fields if name not in text] == []


def test_experiments_are_listed_with_their_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.toml").write_text('question = "is [bold]this[/bold] plain text?"\n')
    monkeypatch.chdir(tmp_path)
    text = shown("experiments")
    assert "mine" in text and "is [bold]this[/bold] plain text?" in text
    assert "default" in text


def test_an_unknown_kind_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown kind of list 'engine' \(did you mean 'engines'\?\)") as caught:
        list(catalogue("engine"))
    assert all(kind in str(caught.value) for kind in KINDS)
