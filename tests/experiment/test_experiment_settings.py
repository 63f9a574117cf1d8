"""Settings: one rule merges them, and every mistake names itself."""

from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.experiment import settings as config
from harness.experiment.settings import Experiment, experiment_folders, merge, named_experiments, read_experiment


def test_a_later_source_replaces_a_setting_as_a_whole() -> None:
    merged = merge({"arms": ["chunkwise", "layerwise"], "pairs": 3}, {"arms": ["floor"], "store": None})
    assert merged.arms == ["floor"]
    assert merged.pairs == 3
    assert merged.store == Experiment().store


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pears": 3}, "unknown option of the experiment 'pears' .did you mean 'pairs'"),
        ({"pairs": 0}, "pairs=0 is invalid"),
        ({"cache_state": "cold"}, "cache_state='cold' is invalid.*primed.*natural"),
        ({"arms": []}, "arms=.. is invalid"),
        ({"arms": ["chunkwise", "chunkwise"]}, "listed twice.*@again"),
        ({"dtype": "int8"}, "dtype='int8'"),
        ({"kv_cache_gib": float("inf")}, "kv_cache_gib=inf is invalid"),
    ],
)
def test_bad_settings_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        merge(values)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "experiments"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    return folder


def test_an_experiment_is_found_by_name_short_name_or_path(here: Path) -> None:
    (here / "r02-pool.toml").write_text('question = "why"\npairs = 9\n')
    for name in ("r02-pool", "r02", str(here / "r02-pool.toml")):
        assert read_experiment(name) == {"question": "why", "pairs": 9}


def test_an_experiment_here_hides_one_of_ours(here: Path) -> None:
    (here / "default.toml").write_text("pairs = 2\n")
    assert read_experiment("default") == {"pairs": 2}
    assert "disk" in named_experiments()


@pytest.mark.parametrize(
    ("text", "message"),
    [("pairs = ", "is not valid TOML"), ("pears = 2", "unknown setting in .* 'pears'"), ("\udcff", "is not valid TOML")],
)
def test_a_bad_file_is_named(here: Path, text: str, message: str) -> None:
    (here / "mine.toml").write_text(text, errors="surrogateescape")
    with pytest.raises(UsageError, match=message):
        read_experiment("mine")


def test_unknown_experiments_list_the_known_ones(here: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown experiment 'defualt' \(did you mean 'default'\?\); known: .*disk"):
        read_experiment("defualt")
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_experiment("nowhere.toml")


def test_our_own_experiments_are_valid_and_ask_a_question() -> None:
    files = sorted((experiment_folders()[1]).glob("*.toml"))
    assert files
    for path in files:
        experiment = merge(read_experiment(str(path)))
        assert experiment.question.endswith("?"), path
        assert experiment.pairs >= 6, path


def test_folders_are_looked_at_here_first() -> None:
    assert config.experiment_folders()[0] == Path("experiments")
