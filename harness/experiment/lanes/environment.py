"""A light environment for one version: its own installation of the package, everything else shared with ours.

vLLM and torch take gigabytes, so they are not installed again: a ``.pth`` file appends our own site-packages,
behind the version's own. Editable installations over there stay importable, except that of the package itself: its
finder would give the version modules that it does not have.
"""

import json
import os
import site
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import harness
from harness.core.errors import SetupError, UsageError
from harness.experiment.lanes.lane import Program
from harness.experiment.lanes.process import command_of
from harness.experiment.lanes.versions import Version, changed, snapshot

OURS = "ttft"
WORKER = "harness.experiment.lanes.worker"

_PROBE = """
import importlib.metadata, importlib.util, json, sys, sysconfig
home = sysconfig.get_path("purelib")
package = next(iter(importlib.metadata.distributions(path=[home])))
tops = {file.parts[0].removesuffix(".py") for file in package.files or () if file.suffix == ".py"}
specs = {top: importlib.util.find_spec(top) for top in sorted(tops) if top.isidentifier()}
where = {top: str(s.origin or next(iter(s.submodule_search_locations or []), "")) if s else "" for top, s in specs.items()}
parts = sys.argv[1].split(".")
worker = all(importlib.util.find_spec(".".join(parts[: count + 1])) for count in range(len(parts)))  # the outermost first
print(json.dumps({"home": home, "version": package.version, "where": where, "worker": worker}))
"""


@dataclass(frozen=True, slots=True)
class Environment:
    """``package`` and its ``version`` as installed; ``home``: the version's own site-packages."""

    python: Path
    package: str
    version: str
    home: Path

    @property
    def ours(self) -> bool:
        """Whether the package is ttft itself; otherwise the harness is this one, and the package lies beside it."""
        return self.package == OURS


def prepare(version: Version, workplace: Path, log: Path) -> Program:
    """Copy the version's files below ``workplace`` and install them there, which has to stay until its lane has ended.

    Raises UsageError or SetupError, naming the version.
    """
    dirty = changed(version)
    tree = workplace / version.name / "tree"
    digest = snapshot(version, tree)
    log.parent.mkdir(parents=True, exist_ok=True)
    installed = build(version, tree, workplace / version.name / "env", log)
    source = {
        "from": version.what,
        "commit": version.commit or None,
        "changed": dirty,
        "digest": digest,
        "package": installed.package,
        "version": installed.version,
    }
    return Program(command_of(installed.python), worker_environment(os.environ), source, installed.home, installed.ours)


def build(version: Version, tree: Path, folder: Path, log: Path) -> Environment:
    """Install the files in ``tree`` into a new environment in ``folder``; what pip says goes to ``log``. No network is needed.

    Raises SetupError if that fails, UsageError if the package cannot be measured.
    """
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    python = folder / "bin" / "python"
    home = Path(_lines(python, "import sysconfig; print(sysconfig.get_path('purelib'))")[-1])
    shared = home / "shared_environment.pth"
    shared.write_text("\n".join(_site_folders()) + "\n", encoding="utf-8")
    _install(version, python, tree, log)
    packages = [found.metadata["Name"] for found in distributions(path=[str(home)])]
    if len(packages) != 1:
        raise SetupError(f"the {version} installed {len(packages)} packages ({', '.join(packages)}); exactly one is needed")
    shared.write_text("\n".join([*_site_folders(), *_beside(packages[0])]) + "\n", encoding="utf-8")
    return _probed(version, python, packages[0])


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables for a version's processes: nothing in them may come before its own installation."""
    return {name: value for name, value in environ.items() if name != "PYTHONPATH"} | {"PYTHONSAFEPATH": "1"}


def _site_folders() -> list[str]:
    return site.getsitepackages() + ([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])


def _beside(package: str) -> list[str]:
    """Further lines of the .pth file: the .pth files over there, PYTHONPATH, and where this harness is, if it is not measured."""
    folders = _site_folders()
    own = {Path(str(file)).name for found in distributions(name=package, path=folders) for file in found.files or ()}
    lines = [
        f"import site; site.addpackage({folder!r}, {file.name!r}, None)"
        for folder in folders
        for file in sorted(Path(folder).glob("*.pth"))
        if file.name not in own
    ]
    lines += [str(Path(folder).resolve()) for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    return lines if package == OURS else [*lines, str(Path(harness.__file__).resolve().parents[1])]


def _install(version: Version, python: Path, tree: Path, log: Path) -> None:
    command = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "--no-input", "install"]
    command += ["--no-deps", "--no-build-isolation", "--ignore-installed", "--no-index", str(tree)]
    # Packages that ask git for their version find none in a copy.
    variables = {"SETUPTOOLS_SCM_PRETEND_VERSION": f"0+{version.commit[:12] or 'folder'}"} | worker_environment(os.environ)
    with log.open("ab") as output:
        done = subprocess.run(command, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    if done.returncode:
        errors = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        told = next((line.strip() for line in reversed(errors) if "Error" in line or "error:" in line), "pip failed")
        raise SetupError(f"the {version} cannot be installed: {told}; see {log}")


def _probed(version: Version, python: Path, package: str) -> Environment:
    """Make sure that what was installed is what will be imported."""
    found = json.loads(_lines(python, _PROBE, WORKER)[-1])
    home = Path(found["home"])
    for module, origin in found["where"].items():
        if home not in Path(origin).parents:
            where = f"from {origin or 'nowhere'}, not from its own environment"
            raise SetupError(f"the {version} would run {module} {where}; uninstall what else here provides {module}")
    if not found["worker"]:
        raise UsageError(
            f"the {version} is ttft {found['version']} without {WORKER}, so it cannot take turns with {harness.__version__}; "
            "name a later commit, or run the ttft ab of the older version"
        )
    return Environment(python, package, found["version"], home)


def _lines(python: Path, code: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [str(python), "-P", "-c", code, *arguments], capture_output=True, text=True, env=worker_environment(os.environ)
    )
    if done.returncode:
        raise SetupError(f"{python} does not run: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
    return done.stdout.strip().splitlines()
